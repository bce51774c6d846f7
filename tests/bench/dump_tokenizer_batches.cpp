// dump_tokenizer_batches CONFIG.toml OUT.safetensors STEPS [KEY=VALUE...]
//
// The initial weights and the first batches of the first tokenizer stage of a config, as the step
// loop would see them, for tests/bench/tokenizer_peer.py.
#include <cstdio>
#include <exception>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "comm/single_communicator.h"
#include "models/safetensors.h"
#include "trainer/schedule.h"
#include "trainer/tokenizer_stage.h"

namespace espalier {
namespace {

nlohmann::json model_options(const ImageTokenizerOptions& options) {
  return {{"latent_size", options.latent_size},
          {"latent_channels", options.latent_channels},
          {"codebook_size", options.codebook_size},
          {"pixel_stages", options.pixel_stages},
          {"semantic_stages", options.semantic_stages},
          {"width", options.width},
          {"encoder_blocks", options.encoder_blocks},
          {"decoder_blocks", options.decoder_blocks},
          {"masked_width", options.masked_width},
          {"teacher_channels", options.teacher_channels},
          {"folds", options.folds}};
}

void dump(const std::string& config_path, const std::string& out, int64_t steps,
          const std::vector<std::string>& sets) {
  const RunConfig config = load_run_config(config_path, sets);
  const auto comm = make_single_communicator();
  const StageConfig& stage_config = config.stages.at(0);
  TokenizerStage stage({config, stage_config, at::kCPU, *comm, {}, true});
  TensorMap tensors;
  for (const auto& [name, tensor] : stage.state()) {
    if (name != "teacher_mean") tensors["weights." + name] = tensor;
  }
  std::vector<double> rates;
  for (int64_t step = 0; step < steps; ++step) {
    rates.push_back(learning_rate_at(stage_config.optimizer, step, stage_config.steps));
    for (int64_t slot = 0; slot < stage_config.slots(); ++slot) {
      const auto loaded = stage.load(step, slot);
      const auto& batch = dynamic_cast<const TokenizerMicroBatch&>(*loaded);
      char prefix[32];
      std::snprintf(prefix, sizeof prefix, "batch.%04d.%04d.", static_cast<int>(step),
                    static_cast<int>(slot));
      tensors[std::string(prefix) + "images"] = batch.inputs.images;
      tensors[std::string(prefix) + "pixel_depth"] = batch.inputs.pixel_depth;
      tensors[std::string(prefix) + "semantic_depth"] = batch.inputs.semantic_depth;
      tensors[std::string(prefix) + "visible"] = batch.inputs.grid.visible;
      tensors[std::string(prefix) + "teacher"] = batch.inputs.teacher;
      tensors[std::string(prefix) + "candidate_rows"] = batch.candidate_rows;
    }
  }
  nlohmann::json weights;
  const std::vector<std::string> names = stage.loss_names();
  for (size_t i = 0; i < names.size(); ++i) weights[names[i]] = stage.loss_weights()[i];
  const OptimizerConfig& optimizer = stage_config.optimizer;
  const nlohmann::json setup = {{"steps", steps},
                                {"slots", stage_config.slots()},
                                {"batch_size", stage_config.batch_size},
                                {"model", model_options(stage.tokenizer()->options())},
                                {"codebook_decay", config.tokenizer.codebook_decay},
                                {"restart_below", config.tokenizer.restart_below},
                                {"loss_weights", weights},
                                {"learning_rates", rates},
                                {"betas", {optimizer.beta1, optimizer.beta2}},
                                {"epsilon", optimizer.epsilon},
                                {"weight_decay", optimizer.weight_decay},
                                {"clip_norm", optimizer.clip_norm}};
  write_safetensors(out, tensors, {{"setup", setup.dump()}});
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s CONFIG.toml OUT.safetensors STEPS [KEY=VALUE...]\n", argv[0]);
    return 64;
  }
  try {
    espalier::dump(argv[1], argv[2], std::stoll(argv[3]), {argv + 4, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 64;
  }
  return 0;
}
