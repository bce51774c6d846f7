#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "trainer/config/run_config.h"

namespace espalier {

class Model;
class NamedThings;
class Objective;
class Teacher;
struct ObjectiveContext;

// A branch of a model, and what it predicts: "text", "codes".
struct BranchInfo {
  std::string name, predicts;
};

// A kind of model that a config may declare as [model.NAME].
struct ModelKind {
  std::string name;
  std::string help;  // one line for the reference page
  std::function<std::shared_ptr<KindSettings>()> make_settings;
  // `things` has what the model reads frozen: other models, text tokenizers.
  std::function<std::unique_ptr<Model>(const ModelConfig&, NamedThings& things)> make;
  std::vector<BranchInfo> (*branches)(const ModelConfig&) = nullptr;  // null = it has none
  // ConfigError when an objective's data set is not for such a model. Null = any is.
  void (*check_data)(const RunConfig&, const ModelConfig&, const std::string& data,
                     const std::string& asked_by) = nullptr;
  // A lower bound of the numbers that it keeps, from its settings alone. Null = nobody knows.
  double (*least_numbers)(const ModelConfig&) = nullptr;

  // ConfigError when the model has no such branch, or one that predicts something else.
  void check_branch(const ModelConfig& model, const BranchInfo& wanted,
                    const std::string& asked_by) const;
};

// A kind of objective that a stage may mix.
struct ObjectiveKind {
  std::string name;
  std::string help;
  std::string trains;  // the kind of model it is for
  std::function<std::shared_ptr<ObjectiveSettings>()> make_settings;
  std::function<std::unique_ptr<Objective>(const ObjectiveContext&)> make;
};

// A kind of frozen network.
struct TeacherKind {
  std::string name;
  std::string help;
  std::function<std::unique_ptr<Teacher>(const std::string& weights_path)> make;
};

// What a config can name. Filled by registry.cpp, one line for each folder; a program may add more
// before it reads a config. Looking up an unknown kind is a ConfigError that names those there are.
class Registry {
 public:
  void add(ModelKind kind) { models_.push_back(std::move(kind)); }
  void add(ObjectiveKind kind) { objectives_.push_back(std::move(kind)); }
  void add(TeacherKind kind) { teachers_.push_back(std::move(kind)); }

  const ModelKind& model(const std::string& kind, const std::string& asked_by) const;
  const ObjectiveKind& objective(const std::string& kind, const std::string& asked_by) const;
  const TeacherKind& teacher(const std::string& kind, const std::string& asked_by) const;
  const std::vector<ModelKind>& models() const { return models_; }
  const std::vector<ObjectiveKind>& objectives() const { return objectives_; }
  const std::vector<TeacherKind>& teachers() const { return teachers_; }
  std::string names_of_objectives() const;

 private:
  std::vector<ModelKind> models_;
  std::vector<ObjectiveKind> objectives_;
  std::vector<TeacherKind> teachers_;
};

Registry& registry();

}  // namespace espalier
