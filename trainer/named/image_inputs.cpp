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

ImageRows ImageInputs::rows(const std::vector<int64_t>& samples,
                            const std::vector<int64_t>& views) const {
  ImageRows rows{torch::tensor(samples, at::kLong), torch::tensor(views, at::kLong), {}};
  if (kept_.codes.defined()) return rows;
  std::vector<at::Tensor> levels;
  for (const int64_t sample : samples) levels.push_back(images_->levels(sample));
  rows.levels = at::stack(levels);
  return rows;
}

ImageCodes ImageInputs::codes(const ImageRows& rows) const {
  const at::Device device = things_->device();
  const at::Tensor samples = rows.samples.to(device), views = rows.views.to(device);
  if (kept_.codes.defined()) {
    return {kept_.codes.index({views, samples}), kept_.semantics.index({views, samples})};
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
