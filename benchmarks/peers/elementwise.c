/* A million implied volatilities by hand: price, loss, derivative and update of an element in one sweep, in threads.
   glibc's libmvec has expf, logf and erff of vectors. */

#include <math.h>

enum { N = 1000000 };

void train(float *restrict v, const float *restrict strike, const float *restrict years, const float *restrict price,
           float rate, long steps, int threads, float *loss)
{
    const float half = 0.70710678f, density = 0.39894228f, scale = 2.0f / N;
    double total = 0;
    for (long step = 0; step < steps; step++) {
        total = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : total) schedule(static)
        for (int block = 0; block < N / 1000; block++) {
            float sum = 0;
            for (int i = block * 1000; i < block * 1000 + 1000; i++) {
                float root = sqrtf(years[i]), spread = v[i] * root, k = strike[i] * expf(-0.02f * years[i]);
                float d = (0.02f * years[i] - logf(strike[i])) / spread + 0.5f * spread, e = d - spread;
                float made = 0.5f * (1 + erff(d * half)) - k * 0.5f * (1 + erff(e * half));
                float error = made - price[i];
                sum += error * error;
                v[i] -= rate * scale * error * density * expf(-0.5f * d * d) * root;
            }
            total += sum;
        }
    }
    *loss = (float)(total / N);
}
