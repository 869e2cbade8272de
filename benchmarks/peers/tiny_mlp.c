/* The network 8-16-16-1 with tanh, mean squared error and plain gradient descent, by hand: rows of 16 units are the
   vectors, sizes are constants, the backward pass is written out, and the loop over steps is in here. */

#include <math.h>
#include <string.h>

enum { BATCH = 32, IN = 8, UNITS = 16 };

void train(float *restrict w1, float *restrict b1, float *restrict w2, float *restrict b2, float *restrict w3,
           float *restrict b3, const float *restrict x, const float *restrict y, float rate, long steps, int threads, float *loss)
{
    static float h1[BATCH][UNITS], h2[BATCH][UNITS], d1[BATCH][UNITS], d2[BATCH][UNITS];
    float total = 0;
    for (long step = 0; step < steps; step++) {
        float g1[IN][UNITS] = {{0}}, g2[UNITS][UNITS] = {{0}}, g3[UNITS] = {0}, c1[UNITS] = {0}, c2[UNITS] = {0}, c3 = 0;
        float turned[UNITS][UNITS];
        total = 0;
        for (int r = 0; r < BATCH; r++) {
            float z[UNITS];
            for (int j = 0; j < UNITS; j++) z[j] = b1[j];
            for (int i = 0; i < IN; i++)
                for (int j = 0; j < UNITS; j++) z[j] += x[r * IN + i] * w1[i * UNITS + j];
            for (int j = 0; j < UNITS; j++) h1[r][j] = tanhf(z[j]);
        }
        for (int r = 0; r < BATCH; r++) {
            float z[UNITS];
            for (int j = 0; j < UNITS; j++) z[j] = b2[j];
            for (int i = 0; i < UNITS; i++)
                for (int j = 0; j < UNITS; j++) z[j] += h1[r][i] * w2[i * UNITS + j];
            for (int j = 0; j < UNITS; j++) h2[r][j] = tanhf(z[j]);
        }
        for (int i = 0; i < UNITS; i++)
            for (int j = 0; j < UNITS; j++) turned[j][i] = w2[i * UNITS + j];
        for (int r = 0; r < BATCH; r++) {
            float out = *b3;
            for (int j = 0; j < UNITS; j++) out += h2[r][j] * w3[j];
            float error = out - y[r], d = error * (2.0f / BATCH);
            total += error * error;
            c3 += d;
            for (int j = 0; j < UNITS; j++) {
                g3[j] += d * h2[r][j];
                d2[r][j] = d * w3[j] * (1 - h2[r][j] * h2[r][j]);
                c2[j] += d2[r][j];
            }
        }
        for (int r = 0; r < BATCH; r++) {
            float z[UNITS] = {0};
            for (int i = 0; i < UNITS; i++)
                for (int j = 0; j < UNITS; j++) z[j] += d2[r][i] * turned[i][j];
            for (int j = 0; j < UNITS; j++) {
                d1[r][j] = z[j] * (1 - h1[r][j] * h1[r][j]);
                c1[j] += d1[r][j];
            }
        }
        for (int i = 0; i < UNITS; i++)
            for (int r = 0; r < BATCH; r++)
                for (int j = 0; j < UNITS; j++) g2[i][j] += h1[r][i] * d2[r][j];
        for (int i = 0; i < IN; i++)
            for (int r = 0; r < BATCH; r++)
                for (int j = 0; j < UNITS; j++) g1[i][j] += x[r * IN + i] * d1[r][j];
        for (int i = 0; i < IN; i++)
            for (int j = 0; j < UNITS; j++) w1[i * UNITS + j] -= rate * g1[i][j];
        for (int i = 0; i < UNITS; i++)
            for (int j = 0; j < UNITS; j++) w2[i * UNITS + j] -= rate * g2[i][j];
        for (int j = 0; j < UNITS; j++) w3[j] -= rate * g3[j], b2[j] -= rate * c2[j], b1[j] -= rate * c1[j];
        *b3 -= rate * c3;
    }
    *loss = total / BATCH;
}
