#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <nlohmann/json.hpp>

#include "trainer/best_metric.h"
#include "trainer/interference/alignment_profile.h"
#include "trainer/named/named_things.h"
#include "trainer/record/metrics.h"
#include "trainer/run_observer.h"
#include "trainer/stage.h"
#include "trainer/validation.h"

namespace espalier {

// What evaluations of a stage are written to.
struct EvaluationRecord {
  RunLog* log = nullptr;  // rank 0
  int64_t global_step_before = 0;
  std::function<void(nlohmann::json)> event;
};

// The evaluations of one stage of a run, and what follows from them: which checkpoint is the best,
// and whether the stage ends early. Every call is collective.
class RunEvaluation {
 public:
  RunEvaluation(NamedThings& things, Stage& stage, RunObserver& observer, EvaluationRecord record);

  // To be called before training, when it is begun: says once that there is no validation split,
  // and throws ConfigError with the names there are when the stage does not measure what it should.
  void prepare(bool is_first_step);

  struct Verdict {
    bool is_best = false;      // its checkpoint is to be kept
    bool stops_early = false;  // too many evaluations without improvement
  };
  // With the weights as they are: averaged ones, where the stage has them.
  Verdict interim(int64_t step);
  // Of the stage as it ends: losses on the validation split once more, where any are measured.
  Verdict last_validation(int64_t step);
  void final(int64_t step);

  const BestSoFar& best() const { return best_; }
  void restore(const nlohmann::json& best) { best_.restore(best); }

 private:
  using Numbers = std::map<std::string, double>;

  Numbers validate();
  void measure_alignment(int64_t step);
  std::vector<Section> sections(int64_t step, bool is_final);
  void write(int64_t step, bool is_final, double seconds, const std::vector<Section>& sections,
             const Numbers& losses);
  Verdict judge(int64_t step, const std::vector<Section>& sections, const Numbers& losses);
  void say_early_end(int64_t step);
  bool is_first() const { return things_.comm().rank() == 0; }

  NamedThings& things_;
  Stage& stage_;
  RunObserver& observer_;
  EvaluationRecord record_;
  const std::string watched_;
  std::unique_ptr<Validation> validation_;
  std::unique_ptr<AlignmentProfile> alignment_;
  BestSoFar best_;
};

}  // namespace espalier
