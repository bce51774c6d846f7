#include "trainer/registry.h"

#include <algorithm>

#include "trainer/errors.h"

namespace espalier {

// One line for each room: the kind is declared by add_KIND(), in the folder or file of its name.
#define ESPALIER_ROOMS(room)                                                                \
  room(residual_image_tokenizer) room(y_decoder) room(world_model) room(efficientnet_lite0) \
      room(residual_evolution) room(masked_patches) room(caption) room(answer) room(draw)   \
          room(converse) room(world_model_objective)

#define ESPALIER_DECLARE(kind) void add_##kind(Registry&);
ESPALIER_ROOMS(ESPALIER_DECLARE)
#undef ESPALIER_DECLARE

namespace {

Registry built_in() {
  Registry all;
#define ESPALIER_ADD(kind) add_##kind(all);
  ESPALIER_ROOMS(ESPALIER_ADD)
#undef ESPALIER_ADD
  return all;
}

template <class Kind>
std::string names_of(const std::vector<Kind>& kinds) {
  std::string names;
  for (const Kind& kind : kinds) names += (names.empty() ? "" : ", ") + kind.name;
  return names;
}

template <class Kind>
const Kind& find(const std::vector<Kind>& kinds, const std::string& name,
                 const std::string& asked_by) {
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) { return kind.name == name; });
  if (found != kinds.end()) return *found;
  throw ConfigError(asked_by + ": " +
                    (name.empty() ? "a kind is missing" : "there is no kind \"" + name + "\"") +
                    "; known: " + names_of(kinds));
}

}  // namespace

void ModelKind::check_branch(const ModelConfig& model, const BranchInfo& wanted,
                             const std::string& asked_by) const {
  const std::vector<BranchInfo> known =
      branches == nullptr ? std::vector<BranchInfo>{} : branches(model);
  std::string names;
  for (const BranchInfo& branch : known) {
    if (branch.name == wanted.name && branch.predicts == wanted.predicts) return;
    names += (names.empty() ? "" : ", ") + branch.name + " (" + branch.predicts + ")";
  }
  throw ConfigError(asked_by + ".branch = \"" + wanted.name + "\": model." + model.name +
                    " has no such branch that predicts " + wanted.predicts + "; it has " +
                    (names.empty() ? "none" : names));
}

const ModelKind& Registry::model(const std::string& kind, const std::string& asked_by) const {
  return find(models_, kind, asked_by);
}
const ObjectiveKind& Registry::objective(const std::string& kind,
                                         const std::string& asked_by) const {
  return find(objectives_, kind, asked_by);
}
const TeacherKind& Registry::teacher(const std::string& kind, const std::string& asked_by) const {
  return find(teachers_, kind, asked_by);
}
std::string Registry::names_of_objectives() const { return names_of(objectives_); }

Registry& registry() {
  static Registry all = built_in();
  return all;
}

}  // namespace espalier
