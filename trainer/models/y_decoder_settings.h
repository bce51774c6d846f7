#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/decoder/y_model.h"
#include "models/image_tokenizer/image_tokenizer.h"
#include "trainer/config/kind_settings.h"

namespace espalier {

// [model.NAME] of kind "y_decoder"; its branches are [model.NAME.branch.BRANCH].
struct YDecoderSettings : KindSettings {
  struct BranchSettings {
    std::string name;
    int64_t layers = -1;  // -1 = what a backbone has above the fork; 2 without one
    std::string head = "text";
    int64_t width = 0, heads = 0, kv_heads = 0, feed_forward_width = 0;  // 0 = the trunk's
  };

  std::string image_tokenizer;
  std::string text;
  int64_t max_text_tokens = 64;
  int64_t max_pictures = 1;
  std::string backbone;
  double rotary_base = 10000.0;
  int64_t vocabulary_size = 0;
  YModelOptions options;  // of the module; sizes of text and images follow from what it reads
  std::vector<BranchSettings> branches;

  void declare(SettingsScope scope) override;
  int64_t image_size(const RunConfig& config) const override;
  void add_part(const std::string& table, const std::string& name) override;
  void validate(const RunConfig& config, const std::string& where) const override;

  // Sizes of trunk and branches, those of a backbone included; what texts and images decide is left
  // as it is. `kept` is the folder that the run keeps a backbone's config.json in, empty = none:
  // it is read where it is, so that a run does not need the backbone once it has weights of its
  // own. WeightsError for a backbone that cannot be used; ConfigError where a setting contradicts
  // it.
  YModelOptions resolve(const std::string& where, const std::string& kept) const;

  // What pictures decide of the module, and how long its sequences are.
  void apply_image_sizes(const ImageTokenizerOptions& image, YModelOptions& options) const;

 private:
  void declare_trunk(SettingsScope scope);
  void declare_depth(SettingsScope scope);
  void declare_branch(SettingsScope scope, BranchSettings& branch);
  void require_backbone_sizes(const YModelOptions& resolved, const std::string& where) const;
};

// Where a run keeps the config.json of the backbone of the model "model.NAME".
std::string kept_backbone(const RunConfig& config, const std::string& where);

// Without embeddings and heads; a lower bound.
double least_numbers(const YModelOptions& options);

}  // namespace espalier
