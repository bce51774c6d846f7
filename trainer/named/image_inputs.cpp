#include "trainer/named/image_inputs.h"

#include <torch/torch.h>

#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/named/named_things.h"

namespace espalier {

ImageInputs::ImageInputs(NamedThings& things, const std::string& tokenizer, const std::string& data,
                         const std::string& split, int64_t views)
    : things_(&things),
      tokenizer_(&things.model_as<ResidualImageTokenizer>(tokenizer, "an image tokenizer")),
      images_(&things.image_split(data, split)) {
  if (images_->is_in_memory()) kept_ = things.image_codes(tokenizer, data, split, views);
}

ImageRows ImageInputs::rows(const std::vector<PictureView>& pictures) const {
  std::vector<int64_t> places, views;
  std::vector<at::Tensor> levels;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const auto& [sample, picture, view] = pictures[i];
    views.push_back(view);
    if (kept_.codes.defined()) {
      places.push_back(images_->in_memory().row_of(sample, picture));
      continue;
    }
    // Neighbours of one sample are read together.
    std::vector<int64_t> wanted = {picture};
    while (i + 1 < pictures.size() && pictures[i + 1].sample == sample) {
      wanted.push_back(pictures[++i].picture);
      views.push_back(pictures[i].view);
    }
    levels.push_back(images_->levels(sample, wanted));
  }
  ImageRows rows{torch::tensor(places, at::kLong), torch::tensor(views, at::kLong), {}};
  if (!levels.empty()) rows.levels = at::cat(levels);
  return rows;
}

ImageCodes ImageInputs::codes(const ImageRows& rows) const {
  const at::Device device = things_->device();
  if (kept_.codes.defined()) {
    const at::Tensor pictures = rows.pictures.to(device), views = rows.views.to(device);
    return {kept_.codes.index({views, pictures}), kept_.semantics.index({views, pictures})};
  }
  const torch::NoGradGuard no_grad;
  at::Tensor values = levels_to_values(rows.levels.to(device));
  for (int64_t view = 1; view < kViews; ++view) {
    const at::Tensor mine = rows.views.eq(view).nonzero().squeeze(1).to(device);
    if (mine.size(0) > 0) {
      values.index_copy_(0, mine, view_of(values.index_select(0, mine), view));
    }
  }
  const ImageCodes made = encode_images(tokenizer_->module(), values, 1);
  return {made.codes[0], made.semantics[0]};
}

}  // namespace espalier
