#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trainer/config/settings.h"

namespace espalier {

struct RunConfig;

// Settings that only one kind of thing has: a model, an objective. Declared by its owner, in the
// folder of the kind; the config keeps them without knowing what they are.
class KindSettings {
 public:
  virtual ~KindSettings() = default;

  virtual void declare(SettingsScope scope) = 0;

  // Tables below this one that the user named, in the order of the file, before declare(): the
  // branches of a model. `table` is the word before the name: [model.y.branch.NAME] -> "branch".
  virtual void add_part(const std::string& /*table*/, const std::string& /*name*/) {}

  // Side of the images that a model reads, in pixels; 0 = it reads none.
  virtual int64_t image_size(const RunConfig& /*config*/) const { return 0; }

  // What one value cannot show by itself, such as names of other things that must exist. Throws
  // ConfigError; `where` is the key of the thing, "model.y".
  virtual void validate(const RunConfig& /*config*/, const std::string& /*where*/) const {}
};

// What every objective has.
class ObjectiveSettings : public KindSettings {
 public:
  std::string data;  // the data set it learns from, by name

  // Fields of a sample that it cannot do without: "caption".
  virtual std::vector<std::string> data_fields() const { return {}; }
  // The branch of the model it goes through, and what that has to predict; "" = no branch.
  virtual std::string branch_name() const { return ""; }
  virtual std::string branch_predicts() const { return ""; }

  void validate(const RunConfig& config, const std::string& where) const override;

 protected:
  void declare_data(SettingsScope scope);
};

// The settings of a thing as its kind's own class; the kind was checked when the config was read.
template <class T, class Base>
const T& settings_as(const std::shared_ptr<Base>& settings) {
  return dynamic_cast<const T&>(*settings);
}

}  // namespace espalier
