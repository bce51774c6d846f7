// Kind "converse": pictures and what was said so far are read, and what the assistant says next is
// written. A sample is a conversation ("messages"); each time it is shown, one of the texts that
// the assistant says is learned, drawn at random, after all that came before it.
#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include <torch/torch.h>

#include "trainer/evaluation/standard_error.h"
#include "trainer/named/spread_indices.h"
#include "trainer/objectives/reading.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr int64_t kExamples = 12;
constexpr int64_t kMostAnswered = 256;  // questions differ, so each is answered by itself

struct ConverseSettings : ReadingSettings {
  void declare(SettingsScope scope) override { declare_reading(scope); }
  std::vector<std::string> data_fields() const override { return {"messages"}; }
};

// The first text that the assistant says, and what another says last before it.
struct FirstAnswer {
  std::string question, answer;
};

FirstAnswer first_answer(const Sample& sample) {
  const MessagePlace place = assistant_parts(sample.messages, /*is_picture=*/false).front();
  FirstAnswer found;
  found.answer = sample.messages[place.message].parts[place.part].text;
  for (size_t m = 0; m < place.message; ++m) {
    if (!sample.messages[m].is_assistant()) found.question = sample.messages[m].text();
  }
  return found;
}

// Share of words two texts have in common: the harmonic mean of precision and recall, as SQuAD
// (Rajpurkar et al., 2016) scores answers.
double word_f1(const std::string& written, const std::string& wanted) {
  const auto words_of = [](const std::string& text) {
    std::multiset<std::string> words;
    std::istringstream stream(text);
    for (std::string word; stream >> word;) words.insert(word);
    return words;
  };
  const auto a = words_of(written), b = words_of(wanted);
  std::vector<std::string> common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
  const auto total = static_cast<double>(a.size() + b.size());
  return total == 0 ? 1.0 : 2.0 * static_cast<double>(common.size()) / total;
}

class Converse : public ReadingObjective {
 public:
  explicit Converse(const ObjectiveContext& context)
      : ReadingObjective(context, settings_as<ConverseSettings>(context.objective.settings)) {
    learn(context);
  }
  Section evaluate(const EvaluationRequest& request) override;

 protected:
  Reading reading(const Sample& sample, CounterRng& random) const override {
    const std::vector<MessagePlace> places = assistant_parts(sample.messages, false);
    const MessagePlace place = places.at(random.below(places.size()));
    const std::string& answer = sample.messages[place.message].parts[place.part].text;
    return {prompt_before(model_, sample.messages, place), model_.encode_cut(answer)};
  }
  bool keeps_orientation() const override { return true; }  // "on the left"
};

// The answer that fits most training samples: what can be said without looking.
std::string most_frequent_answer(const ImageSet& train) {
  std::map<std::string, int64_t> counts;
  std::string best;
  for (const Sample& sample : train.samples) {
    const std::string text = first_answer(sample).answer;
    if (++counts[text] > counts[best]) best = text;
  }
  return best;
}

Section Converse::evaluate(const EvaluationRequest& request) {
  const ImageSet& all = things_.images(data_, request.split);
  const int64_t most =
      request.max_samples == 0 ? kMostAnswered : std::min(kMostAnswered, request.max_samples);
  const ImageSet held_out = all.select(spread_indices(most, all.size()));
  const std::vector<std::string> written = write_each(
      held_out,
      [this](const Sample& sample) {
        return prompt_before(model_, sample.messages,
                             assistant_parts(sample.messages, false).front());
      },
      model_.max_text_tokens());
  const std::string blind = most_frequent_answer(things_.images(data_, "train"));
  std::vector<double> f1, exact, blind_f1;
  Table examples{.title = "Held-out conversations", .columns = {"question", "answer", "written"}};
  const auto shown = spread_indices(kExamples, held_out.size());
  for (int64_t i = 0; i < held_out.size(); ++i) {
    const auto at = static_cast<size_t>(i);
    const auto [question, wanted] = first_answer(held_out.samples[at]);
    f1.push_back(word_f1(written[at], wanted));
    exact.push_back(written[at] == wanted ? 1 : 0);
    blind_f1.push_back(word_f1(blind, wanted));
    if (std::find(shown.begin(), shown.end(), i) == shown.end()) continue;
    examples.rows.push_back({question, wanted, written[at]});
  }
  const auto mean = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  };
  Section section{.name = name_,
                  .title = "Conversations: " + name_,
                  .text = "The first question of each of " + std::to_string(held_out.size()) +
                          " held-out conversations (" + request.split +
                          "), answered by the branch " + branch_name_ + "."};
  section.metrics.push_back({.name = "word_f1",
                             .label = "words in common with the answer (F1)",
                             .value = mean(f1),
                             .standard_error = standard_error_of_mean(f1),
                             .is_headline = true,
                             .baselines = {{"most frequent answer", mean(blind_f1)}}});
  section.metrics.push_back(
      {.name = "exact",
       .label = "answers exactly right",
       .value = mean(exact),
       .standard_error = standard_error_of_share(mean(exact), held_out.size())});
  section.tables.push_back(std::move(examples));
  return section;
}

}  // namespace

void add_converse(Registry& registry) {
  registry.add(ObjectiveKind{
      .name = "converse",
      .help = "Read a conversation with its pictures, write what the assistant says next through a "
              "text branch.",
      .trains = "y_decoder",
      .make_settings = [] { return std::make_shared<ConverseSettings>(); },
      .make = [](const ObjectiveContext& context) { return std::make_unique<Converse>(context); }});
}

}  // namespace espalier
