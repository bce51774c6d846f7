#include "trainer/named/teacher_targets.h"

#include <torch/torch.h>

#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/named/named_things.h"
#include "trainer/named/teacher_features.h"

namespace espalier {

TeacherTargets::TeacherTargets(NamedThings& things, const ResidualImageTokenizer& model,
                               const std::string& teacher, const std::string& data,
                               const std::string& split, bool mirrored) {
  const bool is_kept = things.image_split(data, split).is_in_memory();
  is_centred_ = split == "train";
  if (is_kept || is_centred_) {
    const TeacherFeatures& kept = model.teacher_of(things, teacher, data, split, mirrored);
    mean_ = kept.mean;
    if (is_kept) features_ = kept.features;
  }
  if (is_kept) return;
  network_ = &things.network(teacher);
  side_ = model.options().latent_size / 2;
}

void TeacherTargets::load(int64_t image, bool is_mirrored, const at::Tensor& mean,
                          at::Tensor row) const {
  if (!features_.defined()) return;
  const at::Tensor seen = features_[image][is_mirrored ? 1 : 0];
  row.copy_(is_centred_ ? seen : seen.to(at::kFloat) - mean.to(at::kCPU));
}

at::Tensor TeacherTargets::of(const at::Tensor& loaded, const at::Tensor& images,
                              const at::Tensor& mean) const {
  if (network_ == nullptr) return loaded;
  const torch::NoGradGuard no_grad;
  const at::Tensor seen = teacher_view(*network_, (images + 1.0) * 127.5, side_);
  return (seen.to(at::kFloat) - mean.to(seen.device())).to(at::kBFloat16);
}

}  // namespace espalier
