#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/order/random.h"
#include "trainer/config/kind_settings.h"
#include "trainer/models/prompt.h"
#include "trainer/models/sequences.h"
#include "trainer/models/y_decoder.h"
#include "trainer/named/image_inputs.h"
#include "trainer/named/named_things.h"
#include "trainer/objectives/objective.h"

namespace espalier {

// What objectives have in common that read pictures and then write text through a branch of a
// Y-shaped decoder: caption, answer and converse.
struct ReadingSettings : ObjectiveSettings {
  std::string branch;
  double weight = 1.0;

  std::string branch_name() const override { return branch; }
  std::string branch_predicts() const override { return "text"; }

 protected:
  void declare_reading(SettingsScope scope);
};

struct ReadingBatch : ObjectiveBatch {
  TokenRows rows;          // all but the image inputs
  at::Tensor target_rows;  // (targets) int64: rows that predict a token
  at::Tensor targets;      // (targets) int64: the token ids
  ImageRows images;

  std::vector<at::Tensor*> tensors() override {
    return {&rows.text_ids, &rows.positions,  &rows.sources, &target_rows,  &rows.pictures,
            &targets,       &images.pictures, &images.views, &images.levels};
  }
};

class ReadingObjective : public Objective {
 public:
  std::vector<LossSpec> loss_specs() const override { return {{"", weight_}}; }
  std::vector<std::string> parameter_groups_used() const override;
  std::unique_ptr<ObjectiveBatch> load(const Turn& turn) override;
  bool can_split() const override { return true; }
  std::vector<LossTerm> losses(const ObjectiveBatch& batch) override;
  std::string data_fingerprint() const override;
  int64_t split_size() const override { return train_ == nullptr ? 0 : train_->size(); }

 protected:
  ReadingObjective(const ObjectiveContext& context, const ReadingSettings& settings);

  // What comes before the answer, and the answer, of a sample. `random` decides where a sample has
  // several. Prefetch thread.
  struct Reading {
    Prompt prompt;
    std::vector<int64_t> answer;
  };
  virtual Reading reading(const Sample& sample, CounterRng& random) const = 0;
  // False: the answer holds of the mirrored image too ("animals"), true: not always ("left arrow").
  virtual bool keeps_orientation() const = 0;

  // Opens the training data; the virtual functions above may be called from here on.
  void learn(const ObjectiveContext& context);
  // What is written after `prompt` for the samples of a set, as text, by the most likely tokens.
  // Collective.
  std::vector<std::string> write(const ImageSet& images, const Prompt& prompt, int64_t max_tokens);
  // The same where prompts differ: samples with the same one are answered together. Collective.
  std::vector<std::string> write_each(const ImageSet& images,
                                      const std::function<Prompt(const Sample& sample)>& prompt_of,
                                      int64_t max_tokens);

  const std::string name_;
  const std::string data_, branch_name_;
  NamedThings& things_;
  YDecoder& model_;
  const int64_t branch_;

 private:
  const double weight_;
  uint64_t seed_, order_seed_;
  const ImageSplit* train_ = nullptr;  // or the split that is measured
  bool is_measured_;
  ImageInputs inputs_;
};

}  // namespace espalier
