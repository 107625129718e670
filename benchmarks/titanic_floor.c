/* The Titanic loop and nothing else: an MLP 15-64-1 with ReLU, binary cross-entropy, Adam, float32, one core. */

#include <math.h>
#include <string.h>

enum { IN = 15, WIDTH = 64, BATCH = 32, LANES = 16, PARTS = WIDTH / LANES };

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* of GCC and Clang */

typedef struct {
    float hidden[IN][WIDTH], hidden_bias[WIDTH], out[WIDTH], out_bias;
} Weights;

enum { SIZE = sizeof(Weights) / sizeof(float) };

/* sum (WIDTH) += the sum of scale[k] * rows[k] (WIDTH) over count rows; the sums stay in registers. */
static inline void add_rows(float *sum, int count, const float *scale, int stride, const float (*rows)[WIDTH]) {
    lanes part[PARTS];
    for (int q = 0; q < PARTS; q++) part[q] = ((lanes *)sum)[q];
    for (int k = 0; k < count; k++)
        for (int q = 0; q < PARTS; q++) part[q] += scale[k * stride] * ((const lanes *)rows[k])[q];
    for (int q = 0; q < PARTS; q++) ((lanes *)sum)[q] = part[q];
}

/* One batch: the gradient of the mean loss, which is returned. */
static float gradient(const Weights *p, float x[BATCH][IN], const float *y, Weights *grad) {
    float units[BATCH][WIDTH], back[BATCH][WIDTH], loss = 0;
    memset(grad, 0, sizeof *grad);
    for (int r = 0; r < BATCH; r++) {
        float logit = p->out_bias;
        memcpy(units[r], p->hidden_bias, sizeof units[r]);
        add_rows(units[r], IN, x[r], 1, p->hidden);
        for (int j = 0; j < WIDTH; j++) {
            units[r][j] = units[r][j] > 0 ? units[r][j] : 0;
            logit += units[r][j] * p->out[j];
        }
        float e = expf(-fabsf(logit)), slope = ((logit > 0 ? 1 : e) / (1 + e) - y[r]) / BATCH;
        loss += (logit > 0 ? logit : 0) - logit * y[r] + log1pf(e);
        grad->out_bias += slope;
        for (int j = 0; j < WIDTH; j++) {
            back[r][j] = units[r][j] > 0 ? slope * p->out[j] : 0;
            grad->hidden_bias[j] += back[r][j];
            grad->out[j] += slope * units[r][j];
        }
    }
    for (int i = 0; i < IN; i++) add_rows(grad->hidden[i], BATCH, x[0] + i, IN, back);
    return loss / BATCH;
}

/* Trains p in place on the given rows (steps, BATCH) of x (n, IN) and y (n); writes the loss of every step. */
void train(float *p, const float *x, const float *y, const int *rows, long steps, float rate, float *losses) {
    float mean[SIZE] = {0}, square[SIZE] = {0}, xb[BATCH][IN], yb[BATCH];
    Weights grad;
    const float *g = (const float *)&grad;
    double power1 = 1, power2 = 1;
    for (long step = 0; step < steps; step++, rows += BATCH) {
        for (int r = 0; r < BATCH; r++) {
            memcpy(xb[r], x + rows[r] * IN, sizeof xb[r]);
            yb[r] = y[rows[r]];
        }
        losses[step] = gradient((const Weights *)p, xb, yb, &grad);
        power1 *= 0.9;
        power2 *= 0.999;
        float root = sqrt(1 - power2), scale = rate * root / (1 - power1), eps = 1e-8 * root;
        for (int k = 0; k < SIZE; k++) {
            mean[k] = 0.9f * mean[k] + 0.1f * g[k];
            square[k] = 0.999f * square[k] + 0.001f * g[k] * g[k];
            p[k] -= scale * mean[k] / (sqrtf(square[k]) + eps);
        }
    }
}
