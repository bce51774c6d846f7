#include "tests/bench/training_dump.h"

#include <cstdio>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "trainer/tokenizer_stage.h"
#include "trainer/unified_stage.h"
#include "trainer/update/schedule.h"

namespace espalier {
namespace {

using nlohmann::json;

// One slot's tensors, named behind "batch.STEP.SLOT.".
class SlotTensors {
 public:
  SlotTensors(TensorMap& tensors, int64_t step, int64_t slot) : tensors_(tensors) {
    char prefix[48];
    std::snprintf(prefix, sizeof prefix, "batch.%04d.%04d.", static_cast<int>(step),
                  static_cast<int>(slot));
    prefix_ = prefix;
  }
  void add(const std::string& name, const at::Tensor& tensor) {
    tensors_[prefix_ + name] = tensor.contiguous();
  }

 private:
  TensorMap& tensors_;
  std::string prefix_;
};

json model_setup(const ImageTokenizerOptions& o) {
  return {{"latent_size", o.latent_size},
          {"latent_channels", o.latent_channels},
          {"codebook_size", o.codebook_size},
          {"pixel_stages", o.pixel_stages},
          {"semantic_stages", o.semantic_stages},
          {"width", o.width},
          {"encoder_blocks", o.encoder_blocks},
          {"decoder_blocks", o.decoder_blocks},
          {"masked_width", o.masked_width},
          {"teacher_channels", o.teacher_channels},
          {"folds", o.folds}};
}

json model_setup(const YModelOptions& o) {
  return {{"width", o.width},
          {"heads", o.heads},
          {"kv_heads", o.kv_heads},
          {"feed_forward_width", o.feed_forward_width},
          {"trunk_layers", o.trunk_layers},
          {"understanding_layers", o.understanding_layers},
          {"generation_layers", o.generation_layers},
          {"longest_sequence", o.longest_sequence},
          {"vocabulary_size", o.vocabulary_size},
          {"image_positions", o.image_positions},
          {"code_channels", o.code_channels},
          {"semantic_channels", o.semantic_channels},
          {"stages", o.stages},
          {"codebook_size", o.codebook_size},
          {"depth_width", o.depth_width},
          {"depth_heads", o.depth_heads},
          {"depth_layers", o.depth_layers},
          {"depth_feed_forward_width", o.depth_feed_forward_width}};
}

void add_slot(SlotTensors slot, const TokenizerMicroBatch& batch) {
  slot.add("images", batch.inputs.images);
  slot.add("pixel_depth", batch.inputs.pixel_depth);
  slot.add("semantic_depth", batch.inputs.semantic_depth);
  slot.add("visible", batch.inputs.grid.visible);
  slot.add("teacher", batch.inputs.teacher);
  slot.add("candidate_rows", batch.candidate_rows);
}

// The packed text, and where each sequence begins in it, so that a peer may pad.
void add_slot(SlotTensors slot, const UnifiedStage::Batch& batch, const UnifiedStage& stage) {
  const ImageCodes& images = stage.train_codes();
  slot.add("text_ids", batch.rows.text_ids);
  slot.add("lengths", batch.rows.layout.spans().select(1, 2));
  slot.add("target_rows", batch.target_rows);
  slot.add("targets", batch.targets);
  slot.add("codes", images.codes.index({batch.views_of, batch.samples_of}));
  if (batch.kind != UnifiedStage::kDraw) {
    slot.add("semantics", images.semantics.index({batch.views_of, batch.samples_of}));
  }
}

}  // namespace

void dump_training(const std::string& path, const RunConfig& config,
                   const StageConfig& stage_config, Stage& stage, int64_t steps) {
  TensorMap tensors;
  for (const auto& [name, tensor] : stage.state()) tensors["weights." + name] = tensor;
  auto* tokenizer = dynamic_cast<TokenizerStage*>(&stage);
  auto* unified = dynamic_cast<UnifiedStage*>(&stage);
  json rates = json::array(), slots = json::array();
  for (int64_t step = 0; step < steps; ++step) {
    rates.push_back(learning_rate_at(stage_config.optimizer, step, stage_config.steps));
    json of_step = json::array();
    for (int64_t slot = 0; slot < stage_config.slots(); ++slot) {
      const auto batch = stage.load(step, slot);
      of_step.push_back({{"task", batch->task}, {"counts", batch->target_counts}});
      const SlotTensors out(tensors, step, slot);
      if (tokenizer != nullptr) {
        add_slot(out, dynamic_cast<const TokenizerMicroBatch&>(*batch));
      } else {
        add_slot(out, dynamic_cast<const UnifiedStage::Batch&>(*batch), *unified);
      }
    }
    slots.push_back(of_step);
  }
  const OptimizerConfig& optimizer = stage_config.optimizer;
  json setup = {{"kind", stage_config.kind},
                {"batch_size", stage_config.batch_size},
                {"slots", slots},
                {"learning_rates", rates},
                {"loss_names", stage.loss_names()},
                {"loss_weights", stage.loss_weights()},
                {"betas", {optimizer.beta1, optimizer.beta2}},
                {"epsilon", optimizer.epsilon},
                {"weight_decay", optimizer.weight_decay},
                {"clip_norm", optimizer.clip_norm}};
  if (tokenizer != nullptr) {
    setup["model"] = model_setup(tokenizer->tokenizer()->options());
    setup["codebook_decay"] = config.tokenizer.codebook_decay;
    setup["restart_below"] = config.tokenizer.restart_below;
  } else {
    setup["model"] = model_setup(unified->model()->options());
    tensors["codebooks"] = unified->codebooks();
  }
  write_safetensors(path, tensors, {{"setup", setup.dump()}});
}

}  // namespace espalier
