#pragma once

#include <string>
#include <vector>

#include "trainer/interference/interference_record.h"
#include "trainer/registry.h"

namespace espalier {

// A room whose gradients are known: the kind "pulled" of a model, a stack "trunk" of layers with
// two matrices and a norm each, and the kind "pull" of an objective, whose loss is linear in them.
// In layer l it pulls every parameter along cosines[l] in one direction and the rest of its length
// in another; half of its micro-batches, every second one, are turned by an angle whose cosine is
// half_cosine into a direction of the objective's own.
void add_pulling(Registry& registry);

struct Pull {
  std::string name;
  std::string branch;           // "left" or "right"
  std::vector<double> cosines;  // one per layer
  double half_cosine = 1;
  double share = 1;
  double weight = 1;
};

// TOML of a run of one stage "pulling" in `directory`: `steps` steps of 6 micro-batches of 2
// samples, a measure of interference every 2 steps.
std::string pulling_toml(const std::string& directory, int64_t steps,
                         const std::vector<Pull>& pulls);

// Trains on ranks that are threads, and reads what was measured.
std::vector<InterferenceRecord> train_pulling(const std::string& directory, int64_t steps,
                                              const std::vector<Pull>& pulls, int world = 1,
                                              const std::vector<std::string>& sets = {});

std::vector<InterferenceRecord> read_interference(const std::string& directory);

// Throws where the record has none.
const PlaceMeasure& at_place(const InterferenceRecord& record, const ParameterPlace& place);

}  // namespace espalier
