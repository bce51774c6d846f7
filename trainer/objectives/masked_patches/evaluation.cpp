#include <torch/torch.h>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "data/order/random.h"
#include "models/masked_autoencoder/masking.h"
#include "models/teachers/feature_losses.h"
#include "trainer/evaluation/shares.h"
#include "trainer/evaluation/standard_error.h"
#include "trainer/named/spread_indices.h"
#include "trainer/named/teacher_features.h"
#include "trainer/objectives/masked_patches/masked_patches.h"
#include "trainer/record/evaluation_files.h"

namespace espalier {
namespace {

constexpr uint64_t kEvaluationStream = 0x746f6b2d6d736bULL;  // nothing else of a run uses it
constexpr int64_t kPictures = 16;

// (B, L, 1): 1 where a patch is masked.
at::Tensor masked_places(const at::Tensor& patches, const VisibleGrid& grid) {
  return at::ones({patches.size(0), patches.size(1), 1}, patches.options())
      .scatter_(1, grid.visible.unsqueeze(2), 0);
}

}  // namespace

// By image, so that neither ranks nor batches matter.
VisibleGrid MaskedPatchesObjective::evaluation_grid(const at::Tensor& indices) const {
  const at::Tensor noise = at::empty({indices.size(0), model_.options().positions()});
  for (int64_t i = 0; i < indices.size(0); ++i) {
    const auto image = static_cast<uint64_t>(indices[i].item<int64_t>());
    fill_noise(noise[i], seed_, combine_streams(kEvaluationStream, image));
  }
  return grid_on_device(make_visible_grid(mask_from_noise(noise, keep_).visible().contiguous(),
                                          model_.options().latent_size));
}

// (chosen, side * side, C) of the images as stored, centred as in training; undefined = no teacher.
at::Tensor MaskedPatchesObjective::teacher_of(const EvaluationRequest& request,
                                              const std::vector<int64_t>& chosen) {
  if (settings_.teacher.empty()) return {};
  at::Tensor features =
      model_
          .teacher_of(things_, settings_.teacher, settings_.data, request.split, /*mirrored=*/false)
          .features.index_select(0, torch::tensor(chosen, at::kLong));
  if (request.split != "train") centre_features(features, teacher_mean_.to(at::kCPU));
  return features.select(1, 0);
}

// (N, 2): mean squared error of the masked pixels, mean cosine to the teacher at visible patches.
at::Tensor MaskedPatchesObjective::measure(const ImageSet& images, const at::Tensor& teacher) {
  const ImageTokenizerOptions& options = model_.options();
  Encoder& encoder = model_.module()->encoder;
  return gather_rows(
      things_.comm(), images.size(), {2},
      [&](const at::Tensor& i) {
        const VisibleGrid grid = evaluation_grid(i);
        const at::Tensor values =
            levels_to_values(images.levels.index_select(0, i)).to(things_.device());
        const at::Tensor patches = image_to_patches(values);
        const at::Tensor error =
            (heads_->reconstruct(encoder, patches, grid) - patches)
                .square()
                .mul(masked_places(patches, grid))
                .sum({1, 2})
                .div(static_cast<double>((options.positions() - keep_) * patches.size(2)));
        at::Tensor cosine = at::zeros_like(error);
        if (teacher.defined()) {
          const at::Tensor wanted =
              teacher.index_select(0, i)
                  .to(things_.device())
                  .flatten(0, 1)
                  .index_select(0, teacher_rows(grid.visible, options.latent_size));
          cosine = cosine_of_rows(heads_->mimic(encoder, values, grid), wanted)
                       .view({i.size(0), keep_})
                       .mean(1);
        }
        return at::stack({error, cosine}, 1);
      },
      "evaluation: masked patches", things_.on_work());
}

Picture MaskedPatchesObjective::write_picture(const ImageSet& images,
                                              const EvaluationRequest& request) {
  const at::Tensor index = torch::tensor(spread_indices(kPictures, images.size()), at::kLong);
  const at::Tensor values =
      levels_to_values(images.levels.index_select(0, index)).to(things_.device());
  const VisibleGrid grid = evaluation_grid(index);
  const at::Tensor patches = image_to_patches(values);
  const at::Tensor masked = masked_places(patches, grid);
  const at::Tensor painted = heads_->reconstruct(model_.module()->encoder, patches, grid);
  const auto pictures = [](const at::Tensor& of_patches) {
    return tensor_to_images(cells_to_image(patches_to_cells(of_patches)));
  };
  const std::string path = request.directory + "/" + request.picture_prefix + "painted.png";
  save_picture(path, contact_sheet({tensor_to_images(values), pictures(patches * (1 - masked)),
                                    pictures(patches * (1 - masked) + painted * masked)}));
  return {"painted", path,
          "Held-out images, the patches that the encoder sees, and what the decoder paints in the "
          "masked ones."};
}

Section MaskedPatchesObjective::evaluate(const EvaluationRequest& request) {
  const torch::NoGradGuard no_grad;
  const ImageSet& all = things_.images(settings_.data, request.split);
  const std::vector<int64_t> chosen = spread_indices(request.max_samples, all.size());
  const ImageSet held_out = all.select(chosen);
  const at::Tensor teacher = teacher_of(request, chosen);
  const at::Tensor rows = measure(held_out, teacher).to(at::kDouble);
  Section section{.name = name_,
                  .title = "Masked patches: " + name_,
                  .text = "The encoder sees " + std::to_string(keep_) + " of " +
                          std::to_string(model_.options().positions()) +
                          " patches. Values are of " + std::to_string(held_out.size()) +
                          " held-out images (" + request.split + ")."};
  Metric error{.name = "masked_error",
               .label = "mean squared error of masked pixels, of values in [-1, 1]",
               .value = rows.select(1, 0).mean().item<double>(),
               .standard_error = standard_error_of_mean(to_numbers(rows.select(1, 0))),
               .is_lower_better = true};
  if (request.is_final && things_.comm().rank() == 0) {
    const at::Tensor mean = things_.images(settings_.data, "train").values().mean(0, true);
    error.baselines = {
        {"mean image, all pixels", (held_out.values() - mean).square().mean().item<double>()}};
  }
  section.metrics.push_back(std::move(error));
  if (teacher.defined()) {
    section.metrics.push_back(
        {.name = "mimic_cosine",
         .label = "cosine to the teacher at visible patches",
         .value = rows.select(1, 1).mean().item<double>(),
         .standard_error = standard_error_of_mean(to_numbers(rows.select(1, 1))),
         .baselines = {{"the mean feature", 0.0}}});
  }
  if (things_.comm().rank() == 0) section.pictures.push_back(write_picture(held_out, request));
  return section;
}

}  // namespace espalier
