#include "trainer/named/open_dataset.h"

#include "data/errors.h"
#include "trainer/errors.h"

namespace espalier {

Dataset open_dataset(const RunConfig& config, const std::string& name, const std::string& split,
                     const WorkListener& on_work) {
  const DataConfig& data = config.data_named(name, "a data set");
  const std::string where = "data." + name;
  if (data.split(split).empty()) throw ConfigError(where + "." + split + " is empty");
  DatasetOptions options;
  options.skip_bad_samples = data.on_bad_sample == "skip";
  options.image_size = static_cast<int>(data.image_size);
  options.fit = data.square_fit();
  options.required_fields = fields_needed(config, name);
  options.image_root = data.image_root;
  options.image_field = data.image_field;
  options.check = data.check;
  options.cache = data.cache;
  for (const std::string& pair : data.rename) {
    const size_t at = pair.find('=');
    if (at == std::string::npos || at == 0 || at + 1 == pair.size()) {
      throw ConfigError(where + ".rename: \"" + pair +
                        "\" is not FROM=TO, such as \"label=caption\"");
    }
    options.rename.emplace_back(pair.substr(0, at), pair.substr(at + 1));
  }
  if (on_work) {
    options.on_indexing = [&](const std::string& path, int64_t samples) {
      on_work({"looking through " + path, samples, 0});
    };
  }
  try {
    return Dataset(data.split(split), options);
  } catch (const DataError& error) {
    throw DataError(where + "." + split + ": " + error.what());
  }
}

}  // namespace espalier
