#include "trainer/named/teacher_targets.h"

#include <torch/torch.h>

#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/named/named_things.h"
#include "trainer/named/teacher_features.h"

namespace espalier {

TeacherTargets::TeacherTargets(NamedThings& things, const ResidualImageTokenizer& model,
                               const std::string& teacher, const std::string& data, bool mirrored) {
  const TeacherFeatures& of_kept = model.teacher_of(things, teacher, data, "train", mirrored);
  mean_ = of_kept.mean;
  if (things.training_images(data).is_in_memory()) {
    features_ = of_kept.features;
  } else {
    network_ = &things.network(teacher);
    side_ = model.options().latent_size / 2;
  }
}

void TeacherTargets::load(int64_t image, bool is_mirrored, at::Tensor row) const {
  if (features_.defined()) row.copy_(features_[image][is_mirrored ? 1 : 0]);
}

at::Tensor TeacherTargets::of(const at::Tensor& loaded, const at::Tensor& images) const {
  if (network_ == nullptr) return loaded;
  const torch::NoGradGuard no_grad;
  const at::Tensor levels = (images + 1.0) * 127.5;
  const at::Tensor seen = teacher_view(*network_, levels, side_);
  return (seen.to(at::kFloat) - mean_.to(seen.device())).to(at::kBFloat16);
}

}  // namespace espalier
