/* Greedy generation with a LLaMA in llama2.c's format by plain loops, from the equations: RMS norm,
 * rotary positions on adjacent pairs, attention over cached keys and values, SwiGLU. No BLAS, no
 * intrinsics, one thread: what `parsimony generate` is compared with (run_generate.py).
 *
 *   cc -O3 -o llama_plain llama_plain.c -lm
 *   ./llama_plain stories260K.bin 256        ids to stdout, tokens per second to stderr
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static float *weights_of(const char *path, int header[7]) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fread(header, sizeof(int), 7, file) != 7) exit(2);
  fseek(file, 0, SEEK_END);
  const long size = ftell(file) - 7 * (long)sizeof(int);
  fseek(file, 7 * (long)sizeof(int), SEEK_SET);
  float *all = malloc((size_t)size);
  if (all == NULL || fread(all, 1, (size_t)size, file) != (size_t)size) exit(2);
  fclose(file);
  return all;
}

/* y = W x, W (m, n) */
static void product(float *y, const float *w, const float *x, int m, int n) {
  for (int i = 0; i < m; ++i) {
    float sum = 0;
    for (int j = 0; j < n; ++j) sum += w[(size_t)i * n + j] * x[j];
    y[i] = sum;
  }
}

static void rms_norm(float *y, const float *x, const float *w, int n) {
  float sum = 0;
  for (int j = 0; j < n; ++j) sum += x[j] * x[j];
  const float scale = 1.0f / sqrtf(sum / n + 1e-5f);
  for (int j = 0; j < n; ++j) y[j] = w[j] * (scale * x[j]);
}

static void rotate(float *x, int heads, int width, int position) {
  for (int h = 0; h < heads; ++h) {
    for (int t = 0; t < width; t += 2) {
      const float angle = position * powf(10000.0f, -(float)t / width);
      const float c = cosf(angle), s = sinf(angle);
      float *pair = x + h * width + t;
      const float a = pair[0], b = pair[1];
      pair[0] = a * c - b * s;
      pair[1] = a * s + b * c;
    }
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int header[7];
  float *at = weights_of(argv[1], header);
  const int d = header[0], f = header[1], layers = header[2], heads = header[3];
  const int kv_heads = header[4], vocab = abs(header[5]), window = header[6];
  const int width = d / heads, kv = kv_heads * width, group = heads / kv_heads;
#define TAKE(name, count) \
  const float *name = at; \
  at += (size_t)(count)
  TAKE(embedding, (size_t)vocab * d);
  TAKE(attention_norm, (size_t)layers * d);
  TAKE(wq, (size_t)layers * d * d);
  TAKE(wk, (size_t)layers * kv * d);
  TAKE(wv, (size_t)layers * kv * d);
  TAKE(wo, (size_t)layers * d * d);
  TAKE(mlp_norm, (size_t)layers * d);
  TAKE(w1, (size_t)layers * f * d);
  TAKE(w2, (size_t)layers * d * f);
  TAKE(w3, (size_t)layers * f * d);
  TAKE(last_norm, d);
  at += (size_t)window * width;
  const float *head = header[5] > 0 ? embedding : at;
#define ROOM(name, count) float *name = calloc((size_t)(count), sizeof(float))
  ROOM(x, d);
  ROOM(n, d);
  ROOM(q, d);
  ROOM(context, d);
  ROOM(out, d);
  ROOM(gate, f);
  ROOM(up, f);
  ROOM(p, window);
  ROOM(logits, vocab);
  ROOM(keys, (size_t)layers * window * kv);
  ROOM(values, (size_t)layers * window * kv);

  const int most = atoi(argv[2]) < window ? atoi(argv[2]) : window - 1;
  int token = 1, made = 0;
  const double start = now();
  for (int position = 0; position < most; ++position) {
    memcpy(x, embedding + (size_t)token * d, (size_t)d * sizeof(float));
    for (int l = 0; l < layers; ++l) {
      float *k_all = keys + (size_t)l * window * kv, *v_all = values + (size_t)l * window * kv;
      float *k = k_all + (size_t)position * kv, *v = v_all + (size_t)position * kv;
      rms_norm(n, x, attention_norm + (size_t)l * d, d);
      product(q, wq + (size_t)l * d * d, n, d, d);
      product(k, wk + (size_t)l * kv * d, n, kv, d);
      product(v, wv + (size_t)l * kv * d, n, kv, d);
      rotate(q, heads, width, position);
      rotate(k, kv_heads, width, position);
      for (int h = 0; h < heads; ++h) {
        const float *qh = q + h * width;
        const int shared = h / group * width;
        float largest = -INFINITY, sum = 0;
        for (int t = 0; t <= position; ++t) {
          float score = 0;
          for (int j = 0; j < width; ++j) score += qh[j] * k_all[(size_t)t * kv + shared + j];
          p[t] = score / sqrtf((float)width);
          if (p[t] > largest) largest = p[t];
        }
        for (int t = 0; t <= position; ++t) sum += p[t] = expf(p[t] - largest);
        float *to = context + h * width;
        memset(to, 0, (size_t)width * sizeof(float));
        for (int t = 0; t <= position; ++t) {
          const float weight = p[t] / sum;
          for (int j = 0; j < width; ++j) to[j] += weight * v_all[(size_t)t * kv + shared + j];
        }
      }
      product(out, wo + (size_t)l * d * d, context, d, d);
      for (int j = 0; j < d; ++j) x[j] += out[j];
      rms_norm(n, x, mlp_norm + (size_t)l * d, d);
      product(gate, w1 + (size_t)l * f * d, n, f, d);
      product(up, w3 + (size_t)l * f * d, n, f, d);
      for (int j = 0; j < f; ++j) gate[j] = gate[j] / (1.0f + expf(-gate[j])) * up[j];
      product(out, w2 + (size_t)l * d * f, gate, d, f);
      for (int j = 0; j < d; ++j) x[j] += out[j];
    }
    rms_norm(n, x, last_norm, d);
    product(logits, head, n, vocab, d);
    token = 0;
    for (int i = 1; i < vocab; ++i) {
      if (logits[i] > logits[token]) token = i;
    }
    if (token == 1 || token == 2) break;
    printf(made++ == 0 ? "%d" : " %d", token);
  }
  const double seconds = now() - start;
  printf("\n");
  fprintf(stderr, "%d tokens, %.0f tokens/s\n", made, made / seconds);
  return 0;
}
