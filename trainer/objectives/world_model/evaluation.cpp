#include "trainer/objectives/world_model/world_model.h"
namespace espalier {
Section WorldModelObjective::evaluate(const EvaluationRequest&) { return {.name = name_, .title = name_, .text=""}; }
}
