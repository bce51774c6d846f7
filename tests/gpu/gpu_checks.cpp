// What tests/gpu/run asks of a GPU, one question a call; the answer is the last line, in JSON.
//
//   gpu_checks ceilings
//   gpu_checks module tokenizer|decoder|masked_autoencoder|world_model
//   gpu_checks ranks --backend nccl                      also under mpirun
//   gpu_checks stopped-rank --backend mpi --rank 1 --deadline 5    under mpirun
//   gpu_checks held-stream --deadline 2 --hold 12
//
// Without a GPU: --device cpu compares the CPU with itself, which shows that the programs start.
// Exit status 77: no GPU where one is needed.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include <gtest/gtest.h>
#include <CLI/CLI.hpp>

#include "tests/gpu/ceilings.h"
#include "tests/gpu/module_checks.h"
#include "tests/gpu/rank_checks.h"

namespace espalier {
namespace {

constexpr int kNoGpu = 77;

struct Arguments {
  std::string device = "cuda", module, backend = "nccl";
  int rank = 1;
  double deadline_s = 60, hold_s = 12;
};

// Ranks of one machine share the device where there are fewer of those.
at::Device device_of(const Arguments& arguments) {
  if (arguments.device == "cpu") return at::kCPU;
  const char* local = std::getenv("OMPI_COMM_WORLD_LOCAL_RANK");
  const int index = local == nullptr ? 0 : std::atoi(local);
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index % torch::cuda::device_count())};
}

nlohmann::json answer(const CLI::App& app, const Arguments& arguments) {
  const at::Device device = device_of(arguments);
  const RankOptions ranks{.backend = arguments.backend,
                          .device = device,
                          .deadline_s = arguments.deadline_s,
                          .stopped_rank = arguments.rank};
  if (app.got_subcommand("ceilings")) return measure_ceilings(device);
  if (app.got_subcommand("ranks")) return check_ranks(ranks);
  if (app.got_subcommand("stopped-rank")) return check_stopped_rank(ranks);
  if (app.got_subcommand("held-stream")) {
    return check_held_stream(arguments.deadline_s, arguments.hold_s);
  }
  const ModuleCheck check = check_module(arguments.module, device);
  nlohmann::json figures = check.figures();
  figures["holds"] = check.holds();
  return figures;
}

void declare(CLI::App& app, Arguments& arguments) {
  app.require_subcommand(1);
  app.add_option("--device", arguments.device, "cuda or cpu")
      ->check(CLI::IsMember({"cuda", "cpu"}));
  app.fallthrough();
  app.add_subcommand("ceilings", "copy and matrix product");
  app.add_subcommand("module", "CPU = device")
      ->add_option("name", arguments.module, "which")
      ->required()
      ->check(CLI::IsMember(module_names()));
  for (const char* name : {"ranks", "stopped-rank"}) {
    CLI::App* ranks = app.add_subcommand(name, "between ranks");
    ranks->add_option("--backend", arguments.backend, "nccl or mpi")
        ->check(CLI::IsMember({"nccl", "mpi"}));
    ranks->add_option("--rank", arguments.rank, "the one that stops");
    ranks->add_option("--deadline", arguments.deadline_s, "seconds");
  }
  CLI::App* held = app.add_subcommand("held-stream", "a stream that a kernel holds");
  held->add_option("--deadline", arguments.deadline_s, "seconds");
  held->add_option("--hold", arguments.hold_s, "seconds");
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  espalier::Arguments arguments;
  CLI::App app("Checks of a GPU");
  espalier::declare(app, arguments);
  CLI11_PARSE(app, argc, argv);
  int no_flags = 1;
  testing::InitGoogleTest(&no_flags, argv);
  if (arguments.device == "cuda" && !torch::cuda::is_available()) {
    std::puts("no GPU: LibTorch sees none here");
    return espalier::kNoGpu;
  }
  try {
    const nlohmann::json figures = espalier::answer(app, arguments);
    std::printf("%s\n", figures.dump().c_str());
    std::fflush(stdout);
    return figures.value("holds", true) ? 0 : 1;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "gpu_checks: %s\n", error.what_without_backtrace());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_checks: %s\n", error.what());
    return 1;
  }
}
