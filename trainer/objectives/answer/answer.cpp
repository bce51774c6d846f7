// Kind "answer": an image and a question are read, and the answer is a field of the sample.
#include <algorithm>

#include <torch/torch.h>

#include "trainer/evaluation/nearest_neighbours.h"
#include "trainer/evaluation/ridge.h"
#include "trainer/evaluation/standard_error.h"
#include "trainer/named/spread_indices.h"
#include "trainer/objectives/reading.h"
#include "trainer/objectives/text_pattern.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr int64_t kExamples = 12;

struct AnswerSettings : ReadingSettings {
  std::string question = "what is this?";
  std::string field = "group";

  void declare(SettingsScope scope) override {
    declare_reading(scope);
    scope.add("question", question,
              {.help = "What is asked of every image; {NAME} stands for a field of the sample."});
    scope.add("field", field,
              {.help = "Field of a sample that holds the answer; of keywords, the first."});
  }
  std::vector<std::string> data_fields() const override {
    std::vector<std::string> fields = fields_of_pattern(question, "question");
    fields.push_back(field);
    return fields;
  }
  void validate(const RunConfig& config, const std::string& where) const override {
    ObjectiveSettings::validate(config, where);
    fields_of_pattern(question, where + ".question");
  }
};

class Answer : public ReadingObjective {
 public:
  explicit Answer(const ObjectiveContext& context)
      : ReadingObjective(context, settings_as<AnswerSettings>(context.objective.settings)),
        settings_(settings_as<AnswerSettings>(context.objective.settings)) {
    learn(context);
  }
  Section evaluate(const EvaluationRequest& request) override;

 protected:
  Reading reading(const Sample& sample, CounterRng& /*random*/) const override {
    return {prompt(sample), model_.encode_cut(answer(sample))};
  }
  bool keeps_orientation() const override { return false; }

 private:
  Prompt prompt(const Sample& sample) const;
  const std::string& answer(const Sample& sample) const { return sample.text(settings_.field); }
  std::vector<std::string> answers_of(const ImageSet& images) const;
  std::vector<Baseline> baselines(const ImageSet& held_out) const;

  const AnswerSettings& settings_;
};

Prompt Answer::prompt(const Sample& sample) const {
  const SequenceTokens& tokens = model_.text().tokens();
  const std::vector<int64_t> question = model_.encode_cut(fill_pattern(settings_.question, sample));
  std::vector<int64_t> ids = {kPicture, tokens.question};
  ids.insert(ids.end(), question.begin(), question.end());
  ids.push_back(tokens.answer);
  return {ids, {0}};
}

std::vector<std::string> Answer::answers_of(const ImageSet& images) const {
  std::vector<std::string> answers;
  for (const Sample& sample : images.samples) answers.push_back(answer(sample));
  return answers;
}

// What simpler means reach on the same images.
std::vector<Baseline> Answer::baselines(const ImageSet& held_out) const {
  const ImageSet& train = things_.images(data_, "train");
  const std::vector<std::string> names = sorted_unique(answers_of(train));
  const at::Tensor labels = label_indices(answers_of(train), names);
  const at::Tensor wanted = label_indices(answers_of(held_out), names);
  const at::Tensor seen = pixel_features(train.levels), asked = pixel_features(held_out.levels);
  return {{"most frequent", majority_accuracy(labels, wanted)},
          {"nearest pixels", nearest_neighbour_accuracy(seen, labels, asked, wanted)},
          {"ridge on pixels",
           share_right(fit_ridge(seen, labels, static_cast<int64_t>(names.size())).answers(asked),
                       wanted)}};
}

Section Answer::evaluate(const EvaluationRequest& request) {
  const ImageSet& all = things_.images(data_, request.split);
  const ImageSet held_out = all.select(spread_indices(request.max_samples, all.size()));
  const std::vector<std::string> written = write_each(
      held_out, [this](const Sample& sample) { return prompt(sample); }, model_.max_text_tokens());
  const std::vector<std::string> right = answers_of(held_out);
  int64_t count = 0;
  for (size_t i = 0; i < written.size(); ++i) count += written[i] == right[i];
  const double share = static_cast<double>(count) / static_cast<double>(held_out.size());
  Section section{.name = name_,
                  .title = "Answers: " + name_,
                  .text = "\"" + settings_.question + "\", answered by the branch " + branch_name_ +
                          " for " + std::to_string(held_out.size()) + " held-out images (" +
                          request.split + ")."};
  Metric accuracy{.name = "accuracy",
                  .label = settings_.field + " answered rightly",
                  .value = share,
                  .standard_error = standard_error_of_share(share, held_out.size()),
                  .is_headline = true};
  if (request.is_final && things_.comm().rank() == 0) accuracy.baselines = baselines(held_out);
  section.metrics.push_back(std::move(accuracy));
  Table examples{.title = "Held-out images", .columns = {"caption", settings_.field, "answered"}};
  for (const int64_t i : spread_indices(kExamples, held_out.size())) {
    const auto at = static_cast<size_t>(i);
    examples.rows.push_back({held_out.samples[at].caption(), right[at], written[at]});
  }
  section.tables.push_back(std::move(examples));
  return section;
}

}  // namespace

void add_answer(Registry& registry) {
  registry.add(ObjectiveKind{
      .name = "answer",
      .help = "Read an image and a question, write a field of the sample through a text branch.",
      .trains = "y_decoder",
      .make_settings = [] { return std::make_shared<AnswerSettings>(); },
      .make = [](const ObjectiveContext& context) { return std::make_unique<Answer>(context); }});
}

}  // namespace espalier
