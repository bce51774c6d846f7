// Kind "rating": a number that comes with each picture (how well people liked it, its age, a price)
// is predicted from the image tokenizer's latent, and shapes that latent while it does.
#include <cstdlib>

#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/evaluation/shares.h"
#include "trainer/evaluation/standard_error.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/seeded_start.h"
#include "trainer/named/image_stream.h"
#include "trainer/named/named_things.h"
#include "trainer/objectives/objective.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr uint64_t kWeightSeed = 0x726174696e672d77ULL;  // nothing else of a run uses it

// 1. Its settings: a row each of docs/configuration.md, checked before anything trains.
struct RatingSettings : ObjectiveSettings {
  std::string field = "rating";
  double weight = 1.0;

  void declare(SettingsScope scope) override {
    declare_data(scope);
    scope.add("field", field, {.help = "Field of a sample that holds the number."});
    scope.add("weight", weight, {.help = "Of the squared error.", .min = 0, .max = 1e6});
  }
  // Samples without it are refused by --dry-run.
  std::vector<std::string> data_fields() const override { return {field}; }
};

// 2. What a micro-batch carries.
struct RatingBatch : ObjectiveBatch {
  at::Tensor images;   // (B, 3, S, S) fp32 in [-1, 1]
  at::Tensor ratings;  // (B) fp32
  std::vector<at::Tensor*> tensors() override { return {&images, &ratings}; }
};

class Rating : public Objective {
 public:
  explicit Rating(const ObjectiveContext& context)
      : settings_(settings_as<RatingSettings>(context.objective.settings)),
        name_(context.objective.name),
        things_(context.things),
        model_(dynamic_cast<ResidualImageTokenizer&>(context.model)),
        seed_(static_cast<uint64_t>(context.run.seed)),
        order_seed_(context.order_seed) {
    const SeededStart seeded(seed_ ^ kWeightSeed);  // the same head on every rank
    head_ = torch::nn::Linear(model_.options().latent_channels, 1);
    head_->to(things_.device());
    if (context.for_training) images_ = &things_.image_split(settings_.data, context.split);
  }

  std::vector<LossSpec> loss_specs() const override { return {{"", settings_.weight}}; }
  std::vector<std::string> parameter_groups_used() const override {
    return {model_.parameter_groups().front().name};
  }

  // 3. A pure function of the turn: whatever the number of ranks, the same samples meet.
  std::unique_ptr<ObjectiveBatch> load(const Turn& turn) override {
    auto batch = std::make_unique<RatingBatch>();
    std::vector<at::Tensor> levels;
    std::vector<float> ratings;
    for (int64_t i = 0; i < turn.samples; ++i) {
      const StreamedImage image =
          image_at(seed_, order_seed_, turn.first_sample() + i, *images_, /*flip=*/false);
      levels.push_back(images_->levels(image.index));
      ratings.push_back(rating_of(images_->describe(image.index)));
    }
    batch->images = levels_to_values(at::stack(levels));
    batch->ratings = torch::tensor(ratings);
    batch->counts = {{"", static_cast<double>(turn.samples)}};
    batch->positions = static_cast<double>(turn.samples * model_.options().positions());
    return batch;
  }

  // 4. The sum over targets; the trainer divides by their number over all ranks.
  std::vector<LossTerm> losses(const ObjectiveBatch& base) override {
    const auto& batch = dynamic_cast<const RatingBatch&>(base);
    const at::Device device = things_.device();
    const at::Tensor predicted = predict(batch.images.to(device, /*non_blocking=*/true));
    return {{"", (predicted - batch.ratings.to(device)).square().sum()}};
  }

  // 5. What belongs to it and not to the model: trained, averaged, kept in checkpoints.
  std::vector<ParameterGroup> parameter_groups() override { return {{name_, head_->parameters()}}; }
  TensorMap state() override { return {{"weight", head_->weight}, {"bias", head_->bias}}; }

  // 6. What it has learned, beside a baseline that needs no learning.
  Section evaluate(const EvaluationRequest& request) override {
    const ImageSet& held_out = things_.images(settings_.data, request.split);
    const at::Tensor wanted = ratings_of(held_out);
    const at::Tensor predicted = gather_rows(
        things_.comm(), held_out.size(), {1},
        [&](const at::Tensor& rows) {
          const at::Tensor levels = held_out.levels.index_select(0, rows);
          return predict(levels_to_values(levels).to(things_.device())).unsqueeze(1);
        },
        "evaluation: rating", things_.on_work());
    const at::Tensor errors = (predicted.squeeze(1).cpu() - wanted).square().to(at::kDouble);
    const double mean = ratings_of(things_.images(settings_.data, "train")).mean().item<double>();
    Section section{.name = name_,
                    .title = "Ratings: " + name_,
                    .text = "Of " + std::to_string(held_out.size()) + " held-out images (" +
                            request.split + ")."};
    section.metrics.push_back(
        {.name = "squared_error",
         .label = "squared error of the rating",
         .value = errors.mean().item<double>(),
         .standard_error = standard_error_of_mean(to_numbers(errors)),
         .is_headline = true,
         .baselines = {{"the mean rating", (wanted - mean).square().mean().item<double>()}},
         .is_lower_better = true});
    return section;
  }

  std::string data_fingerprint() const override {
    return images_ == nullptr ? "" : images_->fingerprint();
  }
  int64_t split_size() const override { return images_ == nullptr ? 0 : images_->size(); }

 private:
  float rating_of(const Sample& sample) const {
    const std::string& text = sample.text(settings_.field);
    char* end = nullptr;
    const float value = std::strtof(text.c_str(), &end);
    if (end != text.c_str() && *end == '\0') return value;
    throw ConfigError("data." + settings_.data + ": sample " + sample.key + ": " + settings_.field +
                      " = \"" + text + "\" is not a number");
  }

  at::Tensor ratings_of(const ImageSet& images) const {
    std::vector<float> ratings;
    for (const Sample& sample : images.samples) ratings.push_back(rating_of(sample));
    return torch::tensor(ratings);
  }

  // (B, 3, S, S) -> (B) fp32, from the mean of the latent over its positions.
  at::Tensor predict(const at::Tensor& images) {
    ImageTokenizer& tokenizer = model_.module();
    const at::Tensor latents =
        tokenizer->to_latent->forward(tokenizer->encoder->forward(image_to_patches(images)));
    const at::Tensor mean = latents.reshape({images.size(0), -1, latents.size(-1)}).mean(1);
    return head_->forward(mean).squeeze(1).to(at::kFloat);
  }

  const RatingSettings& settings_;
  const std::string name_;
  NamedThings& things_;
  ResidualImageTokenizer& model_;
  uint64_t seed_, order_seed_;
  torch::nn::Linear head_{nullptr};
  const ImageSplit* images_ = nullptr;
};

}  // namespace

// 7. Its line in the table of kinds.
void add_rating(Registry& registry) {
  registry.add(ObjectiveKind{
      .name = "rating",
      .help = "Predict a number that comes with a picture from the image tokenizer's latent.",
      .trains = "residual_image_tokenizer",
      .make_settings = [] { return std::make_shared<RatingSettings>(); },
      .make = [](const ObjectiveContext& context) { return std::make_unique<Rating>(context); }});
}

}  // namespace espalier
