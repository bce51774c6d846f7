#pragma once

#include <string>
#include <vector>

#include "comm/reduction/gradient_reducer.h"
#include "models/weights/safetensors.h"

namespace espalier {

// A named model of a run: [model.NAME]. Stages train it, other models and objectives read it
// frozen. Equal on all ranks. Called from the training thread.
class Model {
 public:
  virtual ~Model() = default;

  // The partition that objectives pass through, in a fixed order, e.g. trunk and each branch. A
  // group that no objective of a step reaches is neither reduced nor updated.
  virtual std::vector<ParameterGroup> parameter_groups() = 0;

  // Every persistent tensor by name, parameters included. They alias live storage: loading a
  // checkpoint copies into them. Names, shapes and types do not change.
  virtual TensorMap state() = 0;

  // After every update of its weights by an optimizer.
  virtual void weights_updated() {}

  // State was changed from outside (checkpoint loaded, averages swapped in or out, a model it reads
  // was trained): whatever is derived from it is made anew.
  virtual void state_changed() {}

  // Tensors of state() beyond parameters that averaged weights must cover: codebooks.
  virtual std::vector<std::string> averaged_buffers() const { return {}; }
};

}  // namespace espalier
