/* Trains the digits model from C, with the library that `tapeless build` wrote, and prints the loss of every epoch.

   Usage: ./train DATA EPOCHS SEED
   DATA is what pack.py writes: int32 count of rows, then their images (float32, 64 each), then their labels (int32). */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

static _Alignas(64) char state[DIGITS_STATE_BYTES];
static _Alignas(64) char gradients[DIGITS_GRADIENT_BYTES];
static _Alignas(64) char workspace[DIGITS_WORKSPACE_BYTES];

static void *take(FILE *file, size_t size, size_t count) {
    void *room = malloc(size * count);
    if (!room || fread(room, size, count, file) != count) {
        fprintf(stderr, "the data file is too short\n");
        exit(2);
    }
    return room;
}

int main(int argc, char **argv) {
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    if (!file) {
        fprintf(stderr, "usage: train DATA EPOCHS SEED\n");
        return 2;
    }
    int32_t rows = *(int32_t *)take(file, sizeof rows, 1);
    float *image = take(file, sizeof *image, (size_t)rows * DIGITS_IMAGE_SIZE);
    int32_t *label = take(file, sizeof *label, (size_t)rows);
    int32_t *order = malloc(sizeof *order * (size_t)rows);
    fclose(file);

    int epochs = atoi(argv[2]);
    digits_memory memory = {state, gradients, workspace};
    double results[DIGITS_RESULTS];
    digits_init(memory, strtoull(argv[3], NULL, 10));
    digits_plan(memory, epochs * ((rows + DIGITS_BATCH - 1) / DIGITS_BATCH));
    for (int epoch = 0; epoch < epochs; epoch++) {
        digits_shuffle(memory, epoch, rows, order);
        if (digits_train_step(memory, order, 0, rows, image, label, results)) {
            fprintf(stderr, "the loss is not finite\n");
            return 1;
        }
        printf("epoch %2d  loss %.17g  accuracy %.17g\n", epoch + 1, results[DIGITS_LOSS], results[DIGITS_ACCURACY]);
    }
    digits_loss(memory, rows, image, label, results);
    printf("trained   loss %.17g  accuracy %.17g\n", results[DIGITS_LOSS], results[DIGITS_ACCURACY]);
    return 0;
}
