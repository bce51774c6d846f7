// Block attention against LibTorch's fused attention with a dense mask: forward and backward, the
// same tensors, alternating; the median of the pairs. What is checked before the clock: both give
// the same output and gradients.
//   mask_bench [--pairs N] [--heads N] [--threads N] [--bf16] MASK...   (mask files with --set …)
#include <torch/torch.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>

#include "models/attention/attention_plan.h"
#include "models/attention/block_attention.h"
#include "trainer/masks/mask_file.h"

namespace espalier {
namespace {

struct Options {
  int pairs = 7;
  int64_t heads = 8;
  int64_t head_dim = 64;
  int threads = 1;
  bool is_bf16 = false;
};

struct Case {
  std::string name, path;
  std::vector<std::string> sets;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const std::string dream = "configs/masks/dreamvla.toml";
  // 10 timesteps; context, queries of each of three kinds, action queries.
  struct Size {
    int64_t tokens;
    int64_t context[3], queries[3];
  };
  for (const Size& size :
       {Size{512, {16, 27, 39}, {11, 7, 3}}, Size{2048, {65, 108, 157}, {45, 30, 14}},
        Size{4096, {130, 217, 314}, {91, 62, 30}}}) {
    for (int i = 0; i < 3; ++i) {
      const std::string queries = std::to_string(size.queries[i]);
      all.push_back({"dreamvla, " + std::to_string(size.tokens),
                     dream,
                     {"context=" + std::to_string(size.context[i]), "dream.dynamic=" + queries,
                      "dream.depth=" + queries, "dream.semantic=" + queries}});
    }
    all.push_back({"omni, " + std::to_string(size.tokens),
                   "configs/masks/omni.toml",
                   {"text=" + std::to_string(size.tokens / 8),
                    "image=" + std::to_string(size.tokens * 3 / 8)}});
    all.push_back({"causal, " + std::to_string(size.tokens),
                   "configs/masks/causal.toml",
                   {"text=" + std::to_string(size.tokens)}});
  }
  return all;
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Side {
  at::Tensor q, k, v;  // leaves
  std::function<at::Tensor()> forward;
};

at::Tensor step(const Side& side, const at::Tensor& to) {
  for (const at::Tensor* leaf : {&side.q, &side.k, &side.v}) leaf->mutable_grad() = at::Tensor();
  const at::Tensor out = side.forward();
  out.backward(to.view_as(out));
  return out;
}

void check_alike(const Side& ours, const Side& dense, double tolerance) {
  for (const auto member : {&Side::q, &Side::k, &Side::v}) {
    const at::Tensor a = (ours.*member).grad().to(at::kFloat);
    const at::Tensor b = (dense.*member).grad().to(at::kFloat);
    const double error = ((a - b).abs().max() / b.abs().max()).item<double>();
    TORCH_CHECK(error < tolerance, "block and dense attention differ by ", error);
  }
}

void run(const Case& one, const Options& options) {
  const AttentionMask mask = lay_out(read_mask_file(one.path, one.sets)).mask;
  const AttentionHeads heads{options.heads, options.heads, options.head_dim};
  const int64_t tokens = mask.rows();
  const auto type = options.is_bf16 ? at::kBFloat16 : at::kFloat;
  const auto leaf = [&] {
    return at::randn({tokens, heads.heads * heads.head_dim}).to(type).requires_grad_();
  };
  Side ours{leaf(), leaf(), leaf(), {}};
  const auto copy = [](const at::Tensor& t) { return t.detach().clone().requires_grad_(); };
  Side dense{copy(ours.q), copy(ours.k), copy(ours.v), {}};
  ours.forward = [&] { return block_attention(ours.q, ours.k, ours.v, mask, heads); };
  // As its users write it: an additive mask, made once.
  const at::Tensor additive =
      at::zeros({tokens, tokens}, type).masked_fill_(mask.dense().logical_not(), -INFINITY);
  dense.forward = [&] {
    const auto split = [&](const at::Tensor& t) {
      return t.view({1, tokens, heads.heads, heads.head_dim}).transpose(1, 2);
    };
    return at::scaled_dot_product_attention(split(dense.q), split(dense.k), split(dense.v),
                                            additive)
        .transpose(1, 2)
        .reshape({tokens, heads.heads * heads.head_dim});
  };
  const at::Tensor to = at::randn({tokens, heads.heads * heads.head_dim}).to(type);
  step(ours, to);
  step(dense, to);
  check_alike(ours, dense, options.is_bf16 ? 5e-2 : 1e-4);
  std::vector<double> ratios, ours_s, dense_s;
  for (int pair = 0; pair < options.pairs; ++pair) {
    double a = 0;
    double b = 0;
    if (pair % 2 == 0) a = seconds([&] { step(ours, to); });
    b = seconds([&] { step(dense, to); });
    if (pair % 2 == 1) a = seconds([&] { step(ours, to); });
    ratios.push_back(a / b);
    ours_s.push_back(a);
    dense_s.push_back(b);
  }
  const double density = static_cast<double>(mask.visible()) /
                         (static_cast<double>(tokens) * static_cast<double>(tokens));
  std::printf("| %s | %lld | %.3f | %zu | %.1f | %.1f | %.3f | %.2f |\n", one.name.c_str(),
              static_cast<long long>(tokens), density, mask.plan().pieces.size(),
              1e3 * median(ours_s), 1e3 * median(dense_s), median(ratios),
              median(ratios) / density);
  std::fflush(stdout);
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  espalier::Options options;
  CLI::App app("Block attention against fused attention with a dense mask");
  app.add_option("--pairs", options.pairs, "Pairs of runs")->capture_default_str();
  app.add_option("--heads", options.heads, "Heads")->capture_default_str();
  app.add_option("--threads", options.threads, "Threads")->capture_default_str();
  app.add_flag("--bf16", options.is_bf16, "bfloat16 instead of float32");
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(options.threads);
  std::printf(
      "%s, %lld heads of %lld, %d thread(s), forward and backward, median of %d pairs\n\n"
      "| mask | tokens | density | pieces | ours ms | dense ms | ours / dense | "
      "/ density |\n|---|---|---|---|---|---|---|---|\n",
      options.is_bf16 ? "bf16" : "fp32", static_cast<long long>(options.heads),
      static_cast<long long>(options.head_dim), options.threads, options.pairs);
  for (const espalier::Case& one : espalier::cases()) espalier::run(one, options);
}
