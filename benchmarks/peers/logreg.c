/* Multinomial logistic regression over 64 numbers and 10 classes, plain gradient descent, by hand: rows of 16 lanes hold
   the classes, and batches are read where their rows lie, in a given order. */

#include <math.h>
#include <string.h>

enum { BATCH = 32, IN = 64, CLASSES = 10, LANES = 16 };

void train(float *restrict w, float *restrict b, const float *restrict x, const int *restrict y,
           const int *restrict order, float rate, long steps, int threads, float *loss)
{
    static float v[IN][LANES], c[LANES], d[BATCH][LANES];
    float total = 0;
    (void)threads;
    memset(v, 0, sizeof v);
    for (int i = 0; i < IN; i++) memcpy(v[i], w + i * CLASSES, CLASSES * sizeof(float));
    for (int j = 0; j < LANES; j++) c[j] = j < CLASSES ? b[j] : -1e30f;
    for (long step = 0; step < steps; step++) {
        const int *rows = order + step * BATCH;
        float g[IN][LANES] = {{0}}, e[LANES] = {0};
        total = 0;
        for (int r = 0; r < BATCH; r++) {
            const float *row = x + (long)rows[r] * IN;
            float z[4][LANES], top = -1e30f, sum = 0;
            for (int j = 0; j < LANES; j++) z[0][j] = c[j], z[1][j] = z[2][j] = z[3][j] = 0;
            for (int i = 0; i < IN; i += 4)
                for (int u = 0; u < 4; u++)
                    for (int j = 0; j < LANES; j++) z[u][j] += row[i + u] * v[i + u][j];
            for (int j = 0; j < LANES; j++) z[0][j] += z[1][j] + z[2][j] + z[3][j];
            for (int j = 0; j < LANES; j++) top = z[0][j] > top ? z[0][j] : top;
            float right = z[0][y[rows[r]]] - top;
            for (int j = 0; j < LANES; j++) z[0][j] = expf(z[0][j] - top), sum += z[0][j];
            total += logf(sum) - right;
            for (int j = 0; j < LANES; j++) d[r][j] = z[0][j] * (1.0f / (sum * BATCH));
            d[r][y[rows[r]]] -= 1.0f / BATCH;
            for (int j = 0; j < LANES; j++) e[j] += d[r][j];
        }
        for (int i = 0; i < IN; i++)
            for (int r = 0; r < BATCH; r++)
                for (int j = 0; j < LANES; j++) g[i][j] += x[(long)rows[r] * IN + i] * d[r][j];
        for (int i = 0; i < IN; i++)
            for (int j = 0; j < LANES; j++) v[i][j] -= rate * g[i][j];
        for (int j = 0; j < CLASSES; j++) c[j] -= rate * e[j];
    }
    for (int i = 0; i < IN; i++) memcpy(w + i * CLASSES, v[i], CLASSES * sizeof(float));
    memcpy(b, c, CLASSES * sizeof(float));
    *loss = total / BATCH;
}
