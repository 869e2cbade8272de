/* A program as the compiler would make it, by hand: y = w x + b, squared error, plain descent. See line.json. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    char *state, *gradients, *workspace;
    int64_t threads;
    void *barrier;
    void (*yield)(void);
    int64_t begin, end;
    const int32_t *order;
    double *sums;
    const uint32_t *arguments;
    int64_t status, done;
    void *pointers[];
} context;

enum { CAPACITY = 4, W = 0, B = 64, STEP = 128, SEED = 192, EPOCH = 256, STEPS = 320 };
#define F(offset) (*(float *)(c->state + (offset)))
#define I(offset) (*(int32_t *)(c->state + (offset)))

int32_t tl_line_init(context *c, int32_t thread) {
    if (thread) return 0;
    memset(c->state, 0, 384);
    memcpy(c->state + SEED, c->arguments, 8);
    F(W) = (float)(c->arguments[0] % 7);
    return 0;
}

int32_t tl_line_permutation(context *c, int32_t thread) {
    if (thread) return 0;
    int32_t shift = (int32_t)(c->arguments[0] % 5 + c->arguments[2] % 3 + 1);
    for (int64_t k = 0; k < c->end; k++) ((int32_t *)c->pointers[0])[k] = (int32_t)((k + shift) % c->end);
    return 0;
}

static double batch(context *c, int64_t from, int64_t to, double *gw, double *gb) {
    const float *x = c->pointers[0], *y = c->pointers[1];
    double loss = 0, n = (double)(to - from);
    *gw = *gb = 0;
    for (int64_t k = from; k < to; k++) {
        int64_t row = c->order ? c->order[k] : k;
        double e = (double)F(W) * x[row] + F(B) - y[row];
        loss += e * e / n;
        *gw += 2 * e * x[row] / n;
        *gb += 2 * e / n;
    }
    return loss;
}

static int32_t loop(context *c, int32_t thread, int update) {
    if (thread) return 0;
    for (int64_t from = c->begin; from < c->end;) {
        int64_t to = from + CAPACITY < c->end ? from + CAPACITY : c->end;
        double gw, gb, loss = batch(c, from, to, &gw, &gb);
        if (update == 1) {
            if (!isfinite(loss)) { c->status = 1; return 0; }
            F(W) -= (float)(0.1 * gw);
            F(B) -= (float)(0.1 * gb);
            I(STEP)++;
        }
        if (update == 2) { *(float *)c->gradients = (float)gw; *(float *)(c->gradients + 64) = (float)gb; }
        c->sums[0] += loss * (double)(to - from);
        c->done = from = to;
    }
    return 0;
}

int32_t tl_line_evaluate(context *c, int32_t thread) { return loop(c, thread, 0); }
int32_t tl_line_train_step(context *c, int32_t thread) { return loop(c, thread, 1); }
int32_t tl_line_gradients(context *c, int32_t thread) { return loop(c, thread, 2); }

int32_t tl_line_predict(context *c, int32_t thread) {
    /* every thread takes its own rows: shows that all of them run */
    for (int64_t k = c->begin + thread; k < c->end; k += c->threads)
        ((float *)c->pointers[1])[k] = F(W) * ((float *)c->pointers[0])[k] + F(B);
    return 0;
}
