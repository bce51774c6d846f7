#include "tests/gpu/step_graph.h"

#include <cmath>

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include "tests/gpu/timing.h"

namespace espalier {
namespace {

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::vector<at::Tensor> copies_of(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> copies;
  for (const at::Tensor& tensor : tensors) copies.push_back(tensor.detach().clone());
  return copies;
}

void restore(const std::vector<at::Tensor>& to, const std::vector<at::Tensor>& from) {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < to.size(); ++i) to[i].copy_(from[i]);
}

// "" when the step is in the graph.
std::string capture(at::cuda::CUDAGraph& graph, DecoderStep& step, at::Tensor& loss) {
  std::string why;
  graph.capture_begin();
  try {
    loss = step.run();
  } catch (const std::exception& error) {
    why = first_line(error.what());
  }
  try {
    graph.capture_end();  // throws too where the capture is spoilt
  } catch (const std::exception& error) {
    if (why.empty()) why = first_line(error.what());
  }
  return why;
}

}  // namespace

nlohmann::json compare_with_graph(DecoderStep& step, int64_t steps) {
  const at::Device device(at::kCUDA, 0);
  // Nothing may be captured on the default stream.
  torch::cuda::synchronize();
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
  for (int i = 0; i < 3; ++i) step.run();
  const std::vector<at::Tensor> start = copies_of(step.state());
  std::vector<double> losses;
  for (int64_t i = 0; i < steps; ++i) losses.push_back(step.run().item<double>());
  const auto plain = seconds_per_call(device, 5, steps, [&] { step.run(); });
  nlohmann::json found = {{"ms_per_step_plain", plain[2] * 1e3}};

  torch::cuda::synchronize();
  at::cuda::CUDAGraph graph;
  at::Tensor loss;
  if (const std::string why = capture(graph, step, loss); !why.empty()) {
    found["captures"] = false;
    found["why_not"] = why;
    return found;
  }
  restore(step.state(), start);
  double apart = 0.0;
  for (const double expected : losses) {
    graph.replay();
    apart = std::max(apart, std::abs(loss.item<double>() - expected) / std::abs(expected));
  }
  const auto replayed = seconds_per_call(device, 5, steps, [&] { graph.replay(); });
  found["captures"] = true;
  found["losses_differ_by"] = apart;
  found["ms_per_step_graph"] = replayed[2] * 1e3;
  found["speedup"] = plain[2] / replayed[2];
  return found;
}

}  // namespace espalier
