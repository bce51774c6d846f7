#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/image_tokenizer/image_tokenizer.h"
#include "trainer/config/kind_settings.h"
#include "trainer/models/model.h"

namespace espalier {

class NamedThings;
struct ModelConfig;
struct TeacherFeatures;

// [model.NAME] of kind "residual_image_tokenizer".
struct ResidualImageTokenizerSettings : KindSettings {
  ImageTokenizerOptions options;  // of the module; its latent_size follows from image_size

  void declare(SettingsScope scope) override;
  int64_t image_size(const RunConfig& /*config*/) const override { return options.image_size; }
  void validate(const RunConfig& config, const std::string& where) const override;
};

// EvoTok's tokenizer as a model of a run: one latent, residual codes in cascaded stages, the early
// ones decoded to pixels, all of them toward a teacher's features.
class ResidualImageTokenizer : public Model {
 public:
  ResidualImageTokenizer(const ModelConfig& config, NamedThings& things);

  std::vector<ParameterGroup> parameter_groups() override;
  TensorMap state() override;
  std::vector<std::string> averaged_buffers() const override { return {"quantizer.codebooks"}; }

  // Shared, not copied.
  ImageTokenizer& module() { return module_; }
  const ImageTokenizerOptions& options() const { return module_->options(); }

  // A teacher's features on a map of half the latent's resolution: (N, views, positions / 4, C).
  // ConfigError when they have other channels than the model's settings say. Collective.
  const TeacherFeatures& teacher_of(NamedThings& things, const std::string& teacher,
                                    const std::string& data, const std::string& split,
                                    bool mirrored) const;

 private:
  std::string name_;
  ImageTokenizer module_{nullptr};
};

// ConfigError when the images of a data set are not of the size of the image tokenizer `model`;
// `asked_by` needs them to be.
void require_image_size(const RunConfig& config, const std::string& model, const std::string& data,
                        const std::string& asked_by);

}  // namespace espalier
