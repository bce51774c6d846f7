#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/decoder/sampling.h"
#include "trainer/config/kind_settings.h"
#include "trainer/models/prompt.h"
#include "trainer/models/sequences.h"
#include "trainer/models/y_decoder.h"
#include "trainer/named/image_inputs.h"
#include "trainer/named/named_things.h"
#include "trainer/objectives/objective.h"

namespace espalier {

// Kind "draw": the caption is read, or a conversation with its pictures, and the codes of the image
// are predicted, position by position and, inside one, stage by stage (UniFork's generation side).
struct DrawSettings : ObjectiveSettings {
  std::string branch;
  double weight = 1.0;
  std::string condition = "caption";
  int64_t samples = 0;
  double condition_dropout = 0.1, text_dropout = 0.0, picture_dropout = 0.0;
  double hidden_codes = 0.0;
  SamplingOptions sampling = {.guidance = 2.0, .plausibility = 0.5, .temperature = 0.5};

  void declare(SettingsScope scope) override;
  void validate(const RunConfig& config, const std::string& where) const override;
  bool is_of_messages() const { return condition == "messages"; }
  std::vector<std::string> data_fields() const override {
    return {is_of_messages() ? "messages.picture" : "caption"};
  }
  std::string branch_name() const override { return branch; }
  std::string branch_predicts() const override { return "codes"; }
};

// What a sample has to be drawn from, and which of its pictures that is.
struct DrawCase {
  Prompt prompt;
  int64_t target = 0;
};

struct DrawBatch : ObjectiveBatch {
  TokenRows rows;          // all but the image inputs
  at::Tensor target_rows;  // (B * positions) int64: rows that predict the codes of a position
  at::Tensor drawn;        // (B) int64: which of the pictures are drawn
  at::Tensor shown;        // (image rows, 1) fp32: 0 = its codes are hidden; or undefined
  ImageRows images;

  std::vector<at::Tensor*> tensors() override {
    return {&rows.text_ids, &rows.positions, &rows.sources,    &rows.pictures, &target_rows,
            &drawn,         &shown,          &images.pictures, &images.views,  &images.levels};
  }
};

class Draw : public Objective {
 public:
  explicit Draw(const ObjectiveContext& context);

  std::vector<LossSpec> loss_specs() const override { return {{"", settings_.weight}}; }
  std::vector<std::string> parameter_groups_used() const override;
  std::unique_ptr<ObjectiveBatch> load(const Turn& turn) override;
  bool can_split() const override { return true; }
  std::vector<LossTerm> losses(const ObjectiveBatch& batch) override;
  Section evaluate(const EvaluationRequest& request) override;
  std::string data_fingerprint() const override;
  int64_t split_size() const override { return train_ == nullptr ? 0 : train_->size(); }

  // For its evaluation.
  const DrawSettings& settings() const { return settings_; }
  const std::string& name() const { return name_; }
  NamedThings& things() const { return things_; }
  YDecoder& model() const { return model_; }
  int64_t branch() const { return branch_; }
  // Training samples that are drawn, of `size`.
  std::vector<int64_t> drawn(int64_t size) const;
  // What an evaluation draws: of a conversation the last picture.
  DrawCase last_case(const Sample& sample) const;

 private:
  DrawCase case_of(const Sample& sample, int64_t position) const;
  void drop(Prompt& prompt, double uniform) const;
  at::Tensor shown_positions(const Turn& turn, const std::vector<int64_t>& pictures_before) const;

  const DrawSettings& settings_;
  const std::string name_;
  NamedThings& things_;
  YDecoder& model_;
  const int64_t branch_;
  uint64_t seed_, order_seed_;
  const ImageSplit* train_ = nullptr;  // or the split that is measured
  bool is_measured_ = false;
  std::vector<int64_t> drawn_;  // empty: all
  ImageInputs inputs_;
};

// Prompts that draw_codes() takes, of this condition; `code_sums` of their pictures, each
// (pictures, positions, channels) or undefined.
DrawPrompt draw_prompt(const SequenceTokens& tokens, const DrawSettings& settings,
                       const std::vector<int64_t>& ids, const at::Tensor& code_sums);
// The same for a caption. ConfigError when it has more tokens than a text may have.
DrawPrompt caption_prompt(const YDecoder& model, const DrawSettings& settings,
                          const std::string& caption);

// Of a set of samples: as stored, through the tokenizer, and as drawn from their captions; all
// (N, 3, S, S) in [-1, 1] on the CPU.
struct Drawing {
  at::Tensor originals, reconstructions, drawn;
};

// part_evaluation.cpp: which parts drawings of seen and never-seen combinations show, where samples
// are combinations of parts. `trained` is what drawing was trained on, `held_out` a whole split;
// seen and unseen are what was drawn of each.
void add_drawn_parts(Section& section, const ImageSet& trained, const ImageSet& held_out,
                     const std::pair<const ImageSet&, const Drawing&>& seen,
                     const std::pair<const ImageSet&, const Drawing&>& unseen);

// evaluation.cpp: how likely the true codes are, and what is drawn from names, seen and unseen.
Section evaluate_draw(Draw& objective, const EvaluationRequest& request);

}  // namespace espalier
