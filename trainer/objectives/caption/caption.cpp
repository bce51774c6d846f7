// Kind "caption": an image is read and its caption written (UniFork's understanding side).
#include <torch/torch.h>

#include "trainer/evaluation/nearest_neighbours.h"
#include "trainer/evaluation/part_scores.h"
#include "trainer/evaluation/standard_error.h"
#include "trainer/named/spread_indices.h"
#include "trainer/objectives/reading.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr int64_t kExamples = 12;

struct CaptionSettings : ReadingSettings {
  void declare(SettingsScope scope) override { declare_reading(scope); }
  std::vector<std::string> data_fields() const override { return {"caption"}; }
};

int64_t count_exact(const std::vector<std::string>& written, const ImageSet& images) {
  int64_t exact = 0;
  for (size_t i = 0; i < written.size(); ++i) exact += written[i] == images.samples[i].caption();
  return exact;
}

struct Written {
  const ImageSet& images;
  const std::vector<std::string>& texts;
};

// Chance, and what pixels tell without a model.
std::vector<PartRow> part_baselines(const Combinations& combinations, const ImageSet& train,
                                    const ImageSet& asked, const at::Tensor& wanted) {
  const ImageSet known = train.select(combinations.of_novelty(train.samples, Novelty::kSeen));
  const PartAnswers answers =
      answers_from_features(pixel_features(known.levels), combinations.labels(known.samples),
                            pixel_features(asked.levels));
  at::Tensor chances = at::ones({asked.size(), wanted.size(1) + 1}, at::kDouble);
  for (int64_t part = 0; part < wanted.size(1); ++part) {
    const auto values = static_cast<double>(combinations.values(part).size());
    chances.select(1, part + 1).div_(values);
    chances.select(1, 0).div_(values);
  }
  return {{.label = "chance", .chances = chances},
          {.label = "the nearest training picture", .right = parts_right(answers.nearest, wanted)},
          {.label = "ridge on pixels, part by part", .right = parts_right(answers.ridge, wanted)}};
}

class Caption : public ReadingObjective {
 public:
  explicit Caption(const ObjectiveContext& context)
      : ReadingObjective(context, settings_as<CaptionSettings>(context.objective.settings)) {
    learn(context);
  }
  Section evaluate(const EvaluationRequest& request) override;

 protected:
  Reading reading(const Sample& sample, CounterRng& /*random*/) const override {
    return {prompt(), model_.encode_cut(sample.caption())};
  }
  bool keeps_orientation() const override { return true; }

 private:
  Prompt prompt() const { return {{kPicture, model_.text().tokens().caption}, {0}}; }
  Metric exact_share(const std::string& name, const std::string& label, const ImageSet& images,
                     const std::vector<std::string>& written) const;
  void add_parts(Section& section, const Written& seen, const Written& unseen,
                 bool with_baselines) const;
};

Metric Caption::exact_share(const std::string& name, const std::string& label,
                            const ImageSet& images, const std::vector<std::string>& written) const {
  const auto n = static_cast<int64_t>(written.size());
  const double share =
      n == 0 ? kUnknown
             : static_cast<double>(count_exact(written, images)) / static_cast<double>(n);
  return {.name = name,
          .label = label,
          .value = share,
          .standard_error = standard_error_of_share(share, n)};
}

// Parts that captions name, where samples are combinations of parts.
void Caption::add_parts(Section& section, const Written& seen, const Written& unseen,
                        bool with_baselines) const {
  const ImageSet& train = things_.images(data_, "train");
  const Combinations combinations(train.samples);
  if (combinations.empty()) return;
  std::vector<PartGroup> groups;
  const auto add = [&](PartPictures pictures, const Written& written, Novelty novelty) {
    const auto chosen = combinations.of_novelty(written.images.samples, novelty);
    const ImageSet asked = written.images.select(chosen);
    const at::Tensor wanted = combinations.labels(asked.samples);
    const at::Tensor named =
        combinations.named_in(written.texts).index_select(0, torch::tensor(chosen, at::kLong));
    groups.push_back(part_group(pictures, wanted, parts_right(named, wanted)));
    if (with_baselines && !chosen.empty() && pictures != PartPictures::kTraining) {
      groups.back().beside = part_baselines(combinations, train, asked, wanted);
    }
  };
  add(PartPictures::kTraining, seen, Novelty::kSeen);
  add(PartPictures::kNew, unseen, Novelty::kSeen);
  add(PartPictures::kNeverSeen, unseen, Novelty::kNewCombination);
  add_part_scores(section, combinations, "captions", groups);
}

Section Caption::evaluate(const EvaluationRequest& request) {
  const ImageSet& all = things_.images(data_, request.split);
  const ImageSet unseen = all.select(spread_indices(request.max_samples, all.size()));
  const ImageSet& train = things_.images(data_, "train");
  const ImageSet seen = train.select(spread_indices(unseen.size(), train.size()));
  const std::vector<std::string> of_unseen = write(unseen, prompt(), model_.max_text_tokens());
  const std::vector<std::string> of_seen = write(seen, prompt(), model_.max_text_tokens());
  Section section{.name = name_,
                  .title = "Captions: " + name_,
                  .text = "Captions written from an image's codes by the branch " + branch_name_ +
                          ", the most likely token each time, for " +
                          std::to_string(unseen.size()) + " held-out images (" + request.split +
                          ") and as many training images."};
  section.metrics = {
      exact_share("exact_seen", "captions exactly right, training images", seen, of_seen),
      exact_share("exact_unseen", "captions exactly right, held-out images", unseen, of_unseen)};
  section.metrics.back().is_headline = true;
  add_parts(section, {seen, of_seen}, {unseen, of_unseen},
            request.is_final && things_.comm().rank() == 0);
  Table examples{.title = "Held-out images", .columns = {"caption", "written"}};
  for (const int64_t i : spread_indices(kExamples, unseen.size())) {
    const auto at = static_cast<size_t>(i);
    examples.rows.push_back({unseen.samples[at].caption(), of_unseen[at]});
  }
  section.tables.push_back(std::move(examples));
  return section;
}

}  // namespace

void add_caption(Registry& registry) {
  registry.add(ObjectiveKind{
      .name = "caption",
      .help = "Read an image, write its caption through a text branch (UniFork).",
      .trains = "y_decoder",
      .make_settings = [] { return std::make_shared<CaptionSettings>(); },
      .make = [](const ObjectiveContext& context) { return std::make_unique<Caption>(context); }});
}

}  // namespace espalier
