#include <algorithm>
#include <cmath>

#include <torch/torch.h>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "models/teachers/feature_losses.h"
#include "trainer/evaluation/image_quality.h"
#include "trainer/evaluation/nearest_neighbours.h"
#include "trainer/evaluation/pca.h"
#include "trainer/evaluation/ridge.h"
#include "trainer/evaluation/shares.h"
#include "trainer/evaluation/standard_error.h"
#include "trainer/evaluation/webp_baseline.h"
#include "trainer/named/spread_indices.h"
#include "trainer/named/teacher_features.h"
#include "trainer/objectives/residual_evolution/residual_evolution.h"
#include "trainer/record/evaluation_files.h"

namespace espalier {
namespace {

constexpr int64_t kPictures = 16;
constexpr const char* kStagesUsed = "stages of codes used";

std::vector<std::string> places(int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 1; i <= count; ++i) names.push_back(std::to_string(i));
  return names;
}

// One evaluation of one objective; collective throughout.
class Evaluation {
 public:
  Evaluation(ResidualEvolution& objective, const EvaluationRequest& request)
      : objective_(objective),
        request_(request),
        things_(objective.things()),
        module_(objective.model().module()),
        options_(module_->options()),
        all_held_out_(things_.images(objective.settings().data, request.split)),
        chosen_(spread_indices(request.max_samples, all_held_out_.size())),
        held_out_(all_held_out_.select(chosen_)) {}

  Section run();

 private:
  at::Tensor values_of(const ImageSet& set, const at::Tensor& indices) const {
    return levels_to_values(set.levels.index_select(0, indices)).to(things_.device());
  }
  at::Tensor codes_of(const ImageSet& set);
  at::Tensor pooled_features(const at::Tensor& codes);  // (stages, N, teacher channels)
  void add_pixels();
  void add_pixel_baselines(Metric& metric, Series& series) const;
  void add_usage();
  void add_teacher();
  void add_labels();
  std::vector<Baseline> label_baselines(const ImageSet& train, const at::Tensor& labels,
                                        const at::Tensor& wanted, int64_t classes);
  void add_picture();

  ResidualEvolution& objective_;
  const EvaluationRequest& request_;
  NamedThings& things_;
  ImageTokenizer& module_;
  const ImageTokenizerOptions& options_;
  const ImageSet& all_held_out_;
  const std::vector<int64_t> chosen_;
  const ImageSet held_out_;
  at::Tensor codes_;  // (N, positions, stages) int64 of the held-out images
  Section section_;
};

Section Evaluation::run() {
  section_ = {.name = objective_.name(),
              .title = "Image tokenizer: " + objective_.name(),
              .text =
                  "An image becomes codes from a cascade of residual quantizer stages. The "
                  "first stages are decoded to pixels; all of them together toward the "
                  "features of a frozen teacher. Values are of " +
                  std::to_string(held_out_.size()) + " held-out images (" + request_.split + ")."};
  codes_ = codes_of(held_out_);
  add_pixels();
  add_usage();
  if (!objective_.settings().teacher.empty()) add_teacher();
  if (request_.is_final) add_labels();
  if (things_.comm().rank() == 0) add_picture();
  return std::move(section_);
}

at::Tensor Evaluation::codes_of(const ImageSet& set) {
  return gather_rows(
             things_.comm(), set.size(), {options_.positions(), options_.stages()},
             [&](const at::Tensor& i) { return module_->encode(values_of(set, i)); },
             "evaluation: codes", things_.on_work())
      .to(things_.device(), at::kLong);
}

void Evaluation::add_pixels() {
  const int64_t stages = options_.pixel_stages;
  const at::Tensor errors = gather_rows(
      things_.comm(), held_out_.size(), {stages},
      [&](const at::Tensor& i) {
        const at::Tensor images = values_of(held_out_, i);
        const at::Tensor codes = codes_.index_select(0, i.to(codes_.device()));
        std::vector<at::Tensor> by_stage;
        for (int64_t stage = 1; stage <= stages; ++stage) {
          by_stage.push_back(squared_error_of_images(module_->decode_pixels(codes, stage), images));
        }
        return at::stack(by_stage, 1);
      },
      "evaluation: pixels", things_.on_work());
  Series psnr{.name = "psnr_db",
              .label = "PSNR, mean of images",
              .axis = kStagesUsed,
              .places = places(stages),
              .unit = "dB"};
  Series of_mean{.name = "psnr_db_of_mean_error",
                 .label = "PSNR of the mean error",
                 .axis = kStagesUsed,
                 .places = places(stages),
                 .unit = "dB"};
  ImageQuality last;
  for (int64_t stage = 0; stage < stages; ++stage) {
    last = image_quality(errors.select(1, stage));
    psnr.values.push_back(last.psnr_db);
    of_mean.values.push_back(last.psnr_db_of_mean_error);
  }
  Metric metric{.name = "psnr_db",
                .label = "PSNR from all pixel stages",
                .value = last.psnr_db,
                .standard_error = last.psnr_db_standard_error,
                .unit = "dB",
                .is_headline = true};
  if (request_.is_final && things_.comm().rank() == 0) add_pixel_baselines(metric, psnr);
  section_.metrics.push_back(std::move(metric));
  section_.series.push_back(std::move(psnr));
  section_.series.push_back(std::move(of_mean));
}

// What codecs make of the same images in as many bytes as the codes of all pixel stages take.
void Evaluation::add_pixel_baselines(Metric& metric, Series& series) const {
  const double bits = std::ceil(std::log2(static_cast<double>(options_.codebook_size)));
  const auto bytes = static_cast<int64_t>(
      static_cast<double>(options_.positions() * options_.pixel_stages) * bits / 8);
  const at::Tensor images = held_out_.values();
  const at::Tensor train = things_.images(objective_.settings().data, "train").values();
  const auto psnr = [&](const at::Tensor& decoded) {
    return image_quality(squared_error_of_images(decoded, images)).psnr_db;
  };
  std::vector<Image> webp;
  for (const Image& image : tensor_to_images(images)) {
    webp.push_back(webp_within(image, bytes, WebpBytes::kPayload).image);
  }
  const std::string in_bytes = " in " + std::to_string(bytes) + " bytes";
  metric.baselines = {{"WebP payload" + in_bytes, psnr(images_to_tensor(webp))},
                      {"PCA" + in_bytes, psnr(PcaCodec(train, bytes).reconstruct(images))},
                      {"mean image", psnr(train.mean(0, true).expand_as(images))}};
  series.baselines = metric.baselines;
}

void Evaluation::add_usage() {
  Series usage{.name = "code_usage",
               .label = "Codes in use",
               .axis = "stage",
               .places = places(options_.stages())};
  for (int64_t stage = 0; stage < options_.stages(); ++stage) {
    const at::Tensor used =
        at::bincount(codes_.select(2, stage).flatten().to(at::kCPU), {}, options_.codebook_size);
    usage.values.push_back(used.gt(0).to(at::kDouble).mean().item<double>());
  }
  section_.metrics.push_back({.name = "code_usage",
                              .label = "codes in use, worst stage",
                              .value = *std::min_element(usage.values.begin(), usage.values.end()),
                              .is_headline = true});
  section_.series.push_back(std::move(usage));
}

void Evaluation::add_teacher() {
  const ResidualEvolutionSettings& settings = objective_.settings();
  at::Tensor features =
      objective_.model()
          .teacher_of(things_, settings.teacher, settings.data, request_.split, false)
          .features.index_select(0, torch::tensor(chosen_, at::kLong));
  if (request_.split != "train") centre_features(features, objective_.teacher_mean().to(at::kCPU));
  const at::Tensor cosines = gather_rows(
      things_.comm(), held_out_.size(), {options_.stages()},
      [&](const at::Tensor& i) {
        const at::Tensor teacher = features.index_select(0, i).select(1, 0).to(things_.device());
        const at::Tensor codes = codes_.index_select(0, i.to(codes_.device()));
        std::vector<at::Tensor> by_stage;
        for (int64_t stage = 1; stage <= options_.stages(); ++stage) {
          by_stage.push_back(cosine_of_rows(module_->teacher_space(codes, stage), teacher).mean(1));
        }
        return at::stack(by_stage, 1);
      },
      "evaluation: teacher", things_.on_work());
  section_.series.push_back({.name = "semantic_cosine",
                             .label = "Cosine to the teacher's features",
                             .axis = kStagesUsed,
                             .places = places(options_.stages()),
                             .values = to_numbers(cosines.to(at::kDouble).mean(0)),
                             .baselines = {{"the mean feature", 0.0}}});
}

at::Tensor Evaluation::pooled_features(const at::Tensor& codes) {
  return gather_rows(
             things_.comm(), codes.size(0), {options_.stages(), options_.teacher_channels},
             [&](const at::Tensor& i) {
               const at::Tensor rows = codes.index_select(0, i.to(codes.device()));
               std::vector<at::Tensor> by_stage;
               for (int64_t stage = 1; stage <= options_.stages(); ++stage) {
                 by_stage.push_back(module_->teacher_space(rows, stage).mean(1));
               }
               return at::stack(by_stage, 1);
             },
             "evaluation: neighbours", things_.on_work())
      .transpose(0, 1);
}

// Whether images with one label lie near each other in what the semantic decoder makes of them.
void Evaluation::add_labels() {
  const ResidualEvolutionSettings& settings = objective_.settings();
  const auto labels_of = [&](const ImageSet& set) {
    std::vector<std::string> labels;
    for (const Sample& sample : set.samples) labels.push_back(sample.text(settings.label_field));
    return labels;
  };
  const ImageSet& train = things_.images(settings.data, "train");
  const std::vector<std::string> names = sorted_unique(labels_of(train));
  if (names.size() < 2) return;  // nothing to tell apart
  const at::Tensor labels = label_indices(labels_of(train), names);
  const at::Tensor wanted = label_indices(labels_of(held_out_), names);
  const at::Tensor reference = pooled_features(codes_of(train));
  const at::Tensor queries = pooled_features(codes_);
  Series series{.name = "label_neighbours",
                .label = settings.label_field + " by nearest neighbours",
                .axis = kStagesUsed,
                .places = places(options_.stages())};
  for (int64_t stage = 0; stage < options_.stages(); ++stage) {
    series.values.push_back(
        nearest_neighbour_accuracy(reference[stage], labels, queries[stage], wanted));
  }
  series.baselines = label_baselines(train, labels, wanted, static_cast<int64_t>(names.size()));
  const double value = series.values.back();
  section_.metrics.push_back({.name = "label_neighbours",
                              .label = settings.label_field + " by nearest neighbours, all stages",
                              .value = value,
                              .standard_error = standard_error_of_share(value, held_out_.size()),
                              .baselines = series.baselines});
  section_.series.push_back(std::move(series));
}

std::vector<Baseline> Evaluation::label_baselines(const ImageSet& train, const at::Tensor& labels,
                                                  const at::Tensor& wanted, int64_t classes) {
  const ResidualEvolutionSettings& settings = objective_.settings();
  const at::Tensor seen = pixel_features(train.levels), asked = pixel_features(held_out_.levels);
  std::vector<Baseline> baselines = {
      {"most frequent", majority_accuracy(labels, wanted)},
      {"nearest pixels", nearest_neighbour_accuracy(seen, labels, asked, wanted)},
      {"ridge on pixels", share_right(fit_ridge(seen, labels, classes).answers(asked), wanted)}};
  if (settings.teacher.empty()) return baselines;
  const auto pooled = [&](const std::string& split) {
    const at::Tensor features = objective_.model()
                                    .teacher_of(things_, settings.teacher, settings.data, split,
                                                split == "train" && settings.flip)
                                    .features.select(1, 0)
                                    .to(at::kFloat)
                                    .mean(1);
    return split == "train" ? features : features - objective_.teacher_mean().to(at::kCPU);
  };
  const at::Tensor of_train = pooled("train");
  const at::Tensor of_asked =
      pooled(request_.split).index_select(0, torch::tensor(chosen_, at::kLong));
  baselines.push_back(
      {"the teacher's nearest", nearest_neighbour_accuracy(of_train, labels, of_asked, wanted)});
  return baselines;
}

void Evaluation::add_picture() {
  std::vector<int64_t> columns = spread_indices(kPictures, held_out_.size());
  const at::Tensor index = torch::tensor(columns, at::kLong);
  std::vector<std::vector<Image>> rows{
      tensor_to_images(levels_to_values(held_out_.levels.index_select(0, index)))};
  const at::Tensor codes = codes_.index_select(0, index.to(codes_.device()));
  for (int64_t stage = 1; stage <= options_.pixel_stages; ++stage) {
    rows.push_back(tensor_to_images(module_->decode_pixels(codes, stage)));
  }
  const std::string path =
      request_.directory + "/" + request_.picture_prefix + "reconstructions.png";
  save_picture(path, contact_sheet(rows));
  section_.pictures.push_back(
      {"reconstructions", path,
       "First row: held-out images. Below: what comes back from 1, 2, … stages of codes."});
}

}  // namespace

Section evaluate_residual_evolution(ResidualEvolution& objective,
                                    const EvaluationRequest& request) {
  return Evaluation(objective, request).run();
}

}  // namespace espalier
