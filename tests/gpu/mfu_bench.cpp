// Milliseconds of a training step of a decoder, for the share of the peak that it reaches;
// mfu_peer.py does the same in PyTorch. Prints one line of JSON. tests/gpu/run drives both.
//
//   mfu_bench --size 0.5b
//   mfu_bench --size tiny --device cpu --precision fp32 --write-weights FILE
//   mfu_bench --size 0.3b --sequences 2 --graph      a step captured as a CUDA graph, beside one
//   not
#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>

#include "tests/gpu/decoder_step.h"
#include "tests/gpu/step_graph.h"
#include "tests/gpu/timing.h"

namespace espalier {
namespace {

constexpr int kNoGpu = 77;

struct Arguments {
  std::string sizes = "tests/gpu/decoder_sizes.json";
  std::string size, device = "cuda", precision = "bf16", weights;
  int64_t sequences = 0, warmup = 3, steps = 5, windows = 3;
  bool graph = false;
};

nlohmann::json measure(const Arguments& arguments) {
  DecoderSize size = read_size(arguments.sizes, arguments.size);
  if (arguments.sequences > 0) size.sequences = arguments.sequences;
  const at::Device device = arguments.device == "cpu" ? at::kCPU : at::Device(at::kCUDA, 0);
  DecoderStep step(size, device, arguments.precision);
  nlohmann::json found = {{"side", "espalier"},
                          {"size", arguments.size},
                          {"tokens", size.tokens()},
                          {"parameters", step.parameters()},
                          {"multiplied_parameters", step.multiplied_parameters()},
                          {"flops_per_step", step.flops()},
                          {"attention", step.attention()}};
  if (!arguments.weights.empty()) write_safetensors(arguments.weights, step.weights(), {});
  if (arguments.graph) {
    found.update(compare_with_graph(step, arguments.steps));
    return found;
  }
  std::vector<double> losses;
  for (int64_t i = 0; i < arguments.warmup; ++i) losses.push_back(step.run().item<double>());
  const auto seconds =
      seconds_per_call(device, arguments.windows, arguments.steps, [&] { step.run(); });
  found["losses"] = losses;
  found["ms_per_step"] = seconds[seconds.size() / 2] * 1e3;
  found["ms_per_step_least"] = seconds.front() * 1e3;
  found["ms_per_step_most"] = seconds.back() * 1e3;
  return found;
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  espalier::Arguments arguments;
  CLI::App app("Milliseconds of a training step of a decoder");
  app.add_option("--sizes", arguments.sizes, "decoder_sizes.json");
  app.add_option("--size", arguments.size, "an entry of it")->required();
  app.add_option("--sequences", arguments.sequences, "instead of the entry's");
  app.add_option("--device", arguments.device)->check(CLI::IsMember({"cuda", "cpu"}));
  app.add_option("--precision", arguments.precision)->check(CLI::IsMember({"bf16", "fp32"}));
  app.add_option("--warmup", arguments.warmup, "steps before the clock")
      ->check(CLI::Range(1, 1000));
  app.add_option("--steps", arguments.steps, "steps of a window")->check(CLI::Range(1, 1000));
  app.add_option("--windows", arguments.windows)->check(CLI::Range(1, 1000));
  app.add_option("--write-weights", arguments.weights, "what it starts from, for the peer");
  app.add_flag("--graph", arguments.graph, "a step as a CUDA graph");
  CLI11_PARSE(app, argc, argv);
  if (arguments.device == "cuda" && !torch::cuda::is_available()) {
    std::puts("no GPU: LibTorch sees none here");
    return espalier::kNoGpu;
  }
  try {
    std::printf("%s\n", espalier::measure(arguments).dump().c_str());
    return 0;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "mfu_bench: %s\n", error.what_without_backtrace());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mfu_bench: %s\n", error.what());
    return 1;
  }
}
