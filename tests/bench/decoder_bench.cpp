// Tokens per second of training a decoder that forks: a Hugging Face folder as trunk and two text
// branches, through the project's kernels, reducer and optimizer. tests/bench/decoder drives it and
// its peer, which trains the same with the modules of `transformers`.
//
//   mpirun -n 2 decoder_bench MODEL_DIR BATCHES.safetensors --fork 6 --precision fp32
#include <chrono>
#include <cstdio>
#include <exception>

#include <torch/torch.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "comm/transport/mpi_communicator.h"
#include "models/hugging_face/decoder_config.h"
#include "models/hugging_face/decoder_names.h"
#include "models/hugging_face/weight_folder.h"
#include "models/layers/fused_ops.h"
#include "trainer/host/host_memory.h"
#include "trainer/update/optimizer.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

struct Arguments {
  std::string folder, batches, precision = "fp32";
  int64_t fork = 6, warmup = 3;
};

YModel load_fork(const Arguments& arguments, int64_t length) {
  const DecoderConfig config = read_decoder_config(arguments.folder);
  YModelOptions options;
  apply(config, options);
  options.image_positions = 0;
  options.longest_sequence = length;
  options.trunk_layers = arguments.fork;
  const int64_t above = config.layers - arguments.fork;
  options.branches = {{.name = "first", .layers = above}, {.name = "second", .layers = above}};
  YModel model(options);
  WeightFolder weights(arguments.folder);
  load_decoder(weights, model);
  return model;
}

// Next-token prediction of (sequences, length) ids, summed.
at::Tensor loss_sum(YModel& model, int64_t branch, const at::Tensor& ids) {
  const int64_t count = ids.size(0), length = ids.size(1);
  TokenRows rows;
  rows.text_ids = ids.flatten();
  rows.sources = at::arange(kFirstText, kFirstText + ids.numel(), at::kLong);
  rows.mask = AttentionMask::from_lengths(std::vector<int64_t>(static_cast<size_t>(count), length));
  const at::Tensor hidden = model->hidden(rows, branch).view({count, length, -1});
  const at::Tensor logits =
      model->text_logits(hidden.narrow(1, 0, length - 1).flatten(0, 1), branch);
  return cross_entropy_sum(logits, ids.narrow(1, 1, length - 1).flatten());
}

struct Training {
  explicit Training(YModel& model) {
    groups = {{"trunk", model->trunk_parameters()},
              {"first", model->branch_parameters(0)},
              {"second", model->branch_parameters(1)}};
    std::map<const void*, std::string> names_of;
    for (const auto& item : model->named_parameters()) {
      names_of[item.value().data_ptr()] = item.key();
    }
    for (const ParameterGroup& group : groups) {
      for (const at::Tensor& p : group.parameters) names.push_back(names_of.at(p.data_ptr()));
    }
  }
  std::vector<ParameterGroup> groups;
  std::vector<std::string> names;
};

double train_step(YModel& model, Communicator& comm, GradientReducer& reducer, Optimizer& optimizer,
                  const at::Tensor& ids, const std::string& precision) {
  const std::vector<bool> all = {true, true, true};
  const auto targets =
      static_cast<double>(comm.size() * ids.size(1) * (ids.size(2) - 1));  // of one branch
  reducer.start_step(all);
  at::Tensor loss;
  {
    const PrecisionGuard guard(c10::DeviceType::CPU, precision);
    loss = (loss_sum(model, 0, ids[0]) + loss_sum(model, 1, ids[1])) / targets;
  }
  reducer.expect_last_backward(all);
  loss.backward();
  at::Tensor sum = loss.detach().to(at::kDouble).clone();
  comm.all_reduce(sum)->wait();
  reducer.finish();
  optimizer.update(all, 1e-3, optimizer.gradient_norm(all));
  model->forget_cached_weights();
  return sum.item<double>();
}

nlohmann::json run(const Arguments& arguments) {
  keep_heap_in_huge_pages(/*local_processes=*/2);
  at::set_num_threads(1);
  const auto comm = make_mpi_communicator({.timeout_s = 600});
  // (steps, ranks, branches, sequences, length)
  const at::Tensor ids = read_safetensors(arguments.batches).at("ids").select(1, comm->rank());
  YModel model = load_fork(arguments, ids.size(3));
  const Training training(model);
  OptimizerConfig config;
  config.learning_rate = 1e-3;
  GradientReducer reducer(*comm, training.groups);
  Optimizer optimizer(training.groups, training.names, config);
  std::vector<double> losses;
  auto start = std::chrono::steady_clock::now();
  for (int64_t step = 0; step < ids.size(0); ++step) {
    if (step == arguments.warmup) {
      comm->barrier();
      start = std::chrono::steady_clock::now();
    }
    losses.push_back(train_step(model, *comm, reducer, optimizer, ids[step], arguments.precision));
  }
  comm->barrier();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const auto tokens =
      static_cast<double>((ids.size(0) - arguments.warmup) * ids[0].numel() * comm->size());
  int64_t numbers = 0;
  for (const auto& parameter : model->parameters()) numbers += parameter.numel();
  return comm->rank() == 0 ? nlohmann::json{{"tokens_per_s", tokens / elapsed.count()},
                                            {"parameters", numbers},
                                            {"losses", losses}}
                           : nlohmann::json();
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  espalier::Arguments arguments;
  CLI::App app("Tokens per second of training a decoder that forks");
  app.add_option("MODEL_DIR", arguments.folder, "Hugging Face folder")->required();
  app.add_option("BATCHES", arguments.batches, "safetensors with ids")->required();
  app.add_option("--fork", arguments.fork, "layers of the trunk");
  app.add_option("--precision", arguments.precision, "fp32 or bf16");
  app.add_option("--warmup", arguments.warmup, "steps before the clock");
  CLI11_PARSE(app, argc, argv);
  try {
    const nlohmann::json result = espalier::run(arguments);
    if (!result.is_null()) std::printf("%s\n", result.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 70;
  }
  return 0;
}
