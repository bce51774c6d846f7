#include "tests/bench/training_dump.h"

#include <cstdio>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "trainer/errors.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/y_decoder.h"
#include "trainer/named/image_inputs.h"
#include "trainer/objectives/draw/draw.h"
#include "trainer/objectives/masked_patches/masked_patches.h"
#include "trainer/objectives/reading.h"
#include "trainer/objectives/residual_evolution/residual_evolution.h"
#include "trainer/update/schedule.h"

namespace espalier {
namespace {

using nlohmann::json;

// The tensors of one objective in one slot, named behind "batch.STEP.SLOT.OBJECTIVE.".
class PartTensors {
 public:
  PartTensors(TensorMap& tensors, const Turn& turn) : tensors_(tensors) {
    char prefix[64];
    std::snprintf(prefix, sizeof prefix, "batch.%04d.%04d.%d.", static_cast<int>(turn.step),
                  static_cast<int>(turn.slot), static_cast<int>(turn.objective));
    prefix_ = prefix;
  }
  void add(const std::string& name, const at::Tensor& tensor) {
    tensors_[prefix_ + name] = tensor.contiguous();
  }

 private:
  TensorMap& tensors_;
  std::string prefix_;
};

json tokenizer_setup(const ImageTokenizerOptions& o, const StageConfig& stage) {
  json setup = {{"latent_size", o.latent_size},           {"latent_channels", o.latent_channels},
                {"codebook_size", o.codebook_size},       {"pixel_stages", o.pixel_stages},
                {"semantic_stages", o.semantic_stages},   {"width", o.width},
                {"encoder_blocks", o.encoder_blocks},     {"decoder_blocks", o.decoder_blocks},
                {"teacher_channels", o.teacher_channels}, {"folds", o.folds}};
  for (const ObjectiveConfig& objective : stage.objectives) {
    const auto* masked = dynamic_cast<const MaskedPatchesSettings*>(objective.settings.get());
    if (masked != nullptr) setup["masked_width"] = masked->width;
  }
  return setup;
}

json y_setup(const YModelOptions& o) {
  json branches = json::array();
  for (const BranchOptions& branch : o.branches) {
    branches.push_back({{"name", branch.name},
                        {"head", branch.head == BranchHead::kText ? "text" : "codes"},
                        {"layers", branch.layers}});
  }
  return {{"width", o.width},
          {"heads", o.heads},
          {"kv_heads", o.kv_heads},
          {"feed_forward_width", o.feed_forward_width},
          {"trunk_layers", o.trunk_layers},
          {"branches", branches},
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

void add_model(json& setup, TensorMap& tensors, Model& model, const StageConfig& stage) {
  if (auto* tokenizer = dynamic_cast<ResidualImageTokenizer*>(&model)) {
    setup["model_kind"] = "residual_image_tokenizer";
    setup["model"] = tokenizer_setup(tokenizer->options(), stage);
    setup["codebook_decay"] = tokenizer->options().codebook_decay;
    setup["restart_below"] = tokenizer->options().restart_below;
  } else if (auto* decoder = dynamic_cast<YDecoder*>(&model)) {
    setup["model_kind"] = "y_decoder";
    setup["model"] = y_setup(decoder->module()->options());
    tensors["codebooks"] = decoder->codebooks();
  } else {
    throw ConfigError("the bench has no peer for model." + stage.trains);
  }
}

void add_part(PartTensors part, const ResidualEvolutionBatch& batch) {
  part.add("images", batch.inputs.images);
  part.add("pixel_depth", batch.inputs.pixel_depth);
  part.add("semantic_depth", batch.inputs.semantic_depth);
  part.add("teacher", batch.inputs.teacher);
  part.add("candidate_rows", batch.candidate_rows);
}

// Its images and what the teacher sees in them are those of residual evolution in the same slot.
void add_part(PartTensors part, const MaskedPatchesBatch& batch, const SlotBatch& slot) {
  for (const auto& other : slot.parts) {
    const auto* images = dynamic_cast<const ResidualEvolutionBatch*>(other.get());
    if (images == nullptr) continue;
    TORCH_CHECK(torch::equal(images->inputs.images, batch.images) &&
                    torch::equal(images->inputs.teacher, batch.teacher),
                "objectives of one slot see different images; the peer sees only one set");
    part.add("visible", batch.grid.visible);
    return;
  }
  throw ConfigError("the bench's peer trains masked patches beside residual evolution only");
}

// The packed text, and how long each sequence is, so that a peer may pad.
void add_rows(PartTensors& part, const TokenRows& rows) {
  std::vector<int64_t> lengths;
  for (const MaskGroup& sequence : rows.mask.groups()) lengths.push_back(sequence.length);
  part.add("text_ids", rows.text_ids);
  part.add("lengths", torch::tensor(lengths, at::kLong));
}

void add_part(PartTensors part, const ReadingBatch& batch, const ImageCodes& images) {
  add_rows(part, batch.rows);
  part.add("target_rows", batch.target_rows);
  part.add("targets", batch.targets);
  part.add("codes", images.codes);
  part.add("semantics", images.semantics);
}

void add_part(PartTensors part, const DrawBatch& batch, const ImageCodes& images) {
  add_rows(part, batch.rows);
  part.add("codes", images.codes);
}

class Dump {
 public:
  Dump(NamedThings& things, Stage& stage) : things_(things), stage_(stage) {}

  void write(const std::string& path, int64_t steps);

 private:
  json constants() const;
  json add_slot(int64_t step, int64_t slot);
  void add(const ObjectiveBatch& batch, const SlotBatch& slot);
  ImageCodes codes_of(const ObjectiveConfig& objective, const ImageRows& images);

  NamedThings& things_;
  Stage& stage_;
  TensorMap tensors_;
};

json Dump::constants() const {
  const StageConfig& config = stage_.config();
  json losses = json::array(), objectives = json::array();
  for (const StageLoss& loss : stage_.losses()) {
    losses.push_back({{"name", loss.name}, {"weight", loss.weight}, {"objective", loss.objective}});
  }
  for (const ObjectiveConfig& objective : config.objectives) {
    objectives.push_back({{"name", objective.name},
                          {"kind", objective.kind},
                          {"branch", objective.settings->branch_name()}});
  }
  const OptimizerConfig& optimizer = config.optimizer;
  return {{"batch_size", config.batch_size},
          {"objectives", objectives},
          {"losses", losses},
          {"betas", {optimizer.beta1, optimizer.beta2}},
          {"epsilon", optimizer.epsilon},
          {"weight_decay", optimizer.weight_decay},
          {"clip_norm", optimizer.clip_norm}};
}

ImageCodes Dump::codes_of(const ObjectiveConfig& objective, const ImageRows& images) {
  const auto& model = dynamic_cast<YDecoder&>(things_.model(stage_.config().trains));
  return ImageInputs(things_, model.image_tokenizer_name(), objective.settings->data, "train",
                     kViews)
      .codes(images);
}

void Dump::add(const ObjectiveBatch& batch, const SlotBatch& slot) {
  const ObjectiveConfig& objective =
      stage_.config().objectives[static_cast<size_t>(batch.turn.objective)];
  const PartTensors part(tensors_, batch.turn);
  if (const auto* evolution = dynamic_cast<const ResidualEvolutionBatch*>(&batch)) {
    add_part(part, *evolution);
  } else if (const auto* masked = dynamic_cast<const MaskedPatchesBatch*>(&batch)) {
    add_part(part, *masked, slot);
  } else if (const auto* reading = dynamic_cast<const ReadingBatch*>(&batch)) {
    add_part(part, *reading, codes_of(objective, reading->images));
  } else if (const auto* draw = dynamic_cast<const DrawBatch*>(&batch)) {
    add_part(part, *draw, codes_of(objective, draw->images));
  } else {
    throw ConfigError("the bench has no peer for objectives of kind " + objective.kind);
  }
}

json Dump::add_slot(int64_t step, int64_t slot) {
  const SlotBatch batch = stage_.load(step, slot);
  std::vector<double> counts(stage_.losses().size(), 0.0);
  stage_.count_targets(batch, counts);
  json objectives = json::array();
  for (const auto& part : batch.parts) {
    add(*part, batch);
    objectives.push_back(part->turn.objective);
  }
  return {{"objectives", objectives}, {"counts", counts}};
}

void Dump::write(const std::string& path, int64_t steps) {
  const StageConfig& config = stage_.config();
  json setup = constants();
  add_model(setup, tensors_, things_.model(config.trains), config);
  for (const auto& [name, tensor] : stage_.state()) tensors_["weights." + name] = tensor;
  for (int64_t step = 0; step < steps; ++step) {
    setup["learning_rates"].push_back(learning_rate_at(config.optimizer, step, config.steps));
    json shares = json::array(), slots = json::array();
    for (const StageLoss& loss : stage_.losses()) {
      shares.push_back(stage_.share_of_step(loss, step));
    }
    for (int64_t slot = 0; slot < config.slots(); ++slot) slots.push_back(add_slot(step, slot));
    setup["shares"].push_back(shares);
    setup["slots"].push_back(slots);
  }
  write_safetensors(path, tensors_, {{"setup", setup.dump()}});
}

}  // namespace

void dump_training(const std::string& path, NamedThings& things, Stage& stage, int64_t steps) {
  Dump(things, stage).write(path, steps);
}

}  // namespace espalier
