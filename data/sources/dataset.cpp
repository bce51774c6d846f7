#include "data/sources/dataset.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include <xxhash.h>
#include <nlohmann/json.hpp>

#include "data/digest_text.h"
#include "data/errors.h"
#include "data/images/image_codec.h"
#include "data/sample_json.h"
#include "data/sources/source_cache.h"

namespace espalier {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int64_t kDecodedBelow = int64_t{512} << 20;  // bytes of a source

int64_t bytes_at(const std::string& path) {
  std::error_code none;
  if (!fs::is_directory(path, none)) return static_cast<int64_t>(fs::file_size(path, none));
  int64_t bytes = 0;
  for (const auto& found : fs::recursive_directory_iterator(path, none)) {
    if (found.is_regular_file()) bytes += static_cast<int64_t>(found.file_size());
  }
  return bytes;
}

std::vector<SourceIndex> open_all(const std::vector<std::string>& paths,
                                  const DatasetOptions& options) {
  std::vector<SourceIndex> indices;
  // One source at a time would leave processes waiting for each other: all of one way of checking.
  std::vector<std::string> decoded, glanced;
  std::vector<bool> is_decoded;
  for (const std::string& path : paths) {
    is_decoded.push_back(options.check == "decode" ||
                         (options.check == "auto" && bytes_at(path) < kDecodedBelow));
    (is_decoded.back() ? decoded : glanced).push_back(path);
  }
  BuildOptions build;
  build.image_root = options.image_root;
  build.image_field = options.image_field;
  if (options.on_indexing) {
    build.on_samples = [&](int64_t samples) { options.on_indexing(paths.front(), samples); };
  }
  auto of_decoded = open_sources(decoded, build, options.cache);
  build.decode = false;
  auto of_glanced = open_sources(glanced, build, options.cache);
  size_t d = 0, g = 0;
  for (const bool decode : is_decoded) {
    indices.push_back(std::move(decode ? of_decoded[d++] : of_glanced[g++]));
  }
  return indices;
}

}  // namespace

Dataset::Dataset(const std::vector<std::string>& paths, DatasetOptions options)
    : options_(std::move(options)), paths_(expand_paths(paths)) {
  if (paths_.empty()) throw DataError("no data were given: the list of paths is empty");
  sources_ = open_all(paths_, options_);
  std::string digests;
  first_.push_back(0);
  chosen_.resize(sources_.size());
  for (size_t s = 0; s < sources_.size(); ++s) {
    const SourceIndex& source = sources_[s];
    for (const std::string& message : source.bad().messages) reject(message);
    bad_.count += source.bad().count - std::ssize(source.bad().messages);
    check_fields(s);
    size_ += chosen_[s].empty() ? source.size() : std::ssize(chosen_[s]);
    first_.push_back(size_);
    digests += source.digest();
    containers_.push_back(
        source.container().empty() ? nullptr : std::make_unique<ReadOnlyFile>(source.container()));
  }
  for (const auto& [from, to] : options_.rename) digests += from + "=" + to + ";";
  fingerprint_ = digest_text(XXH3_128bits(digests.data(), digests.size()));
  if (size_ > 0) return;
  throw DataError(
      "no samples in " + paths_.front() +
      (paths_.size() == 1 ? "" : " and " + std::to_string(paths_.size() - 1) + " more") +
      (bad_.count == 0
           ? ""
           : "; " + std::to_string(bad_.count) + " bad, the first: " + bad_.messages.front()) +
      ". A sample is a picture (PNG, JPEG or WebP) with a .json or .txt of the same "
      "name, or a row of a table that names its picture.");
}

std::string Dataset::renamed(const std::string& field) const {
  for (const auto& [from, to] : options_.rename) {
    if (from == field) return to;
  }
  return field;
}

// Which samples of a source have all that is required: told from its sets of fields, so only a
// source with incomplete samples is looked through.
void Dataset::check_fields(size_t s) {
  const SourceIndex& source = sources_[s];
  std::vector<bool> is_complete;
  for (const FieldSet& set : source.field_sets()) {
    std::vector<std::string> names;
    for (const std::string& field : set.fields) names.push_back(renamed(field));
    is_complete.push_back(std::all_of(
        options_.required_fields.begin(), options_.required_fields.end(),
        [&](const auto& f) { return std::find(names.begin(), names.end(), f) != names.end(); }));
  }
  if (std::all_of(is_complete.begin(), is_complete.end(), [](bool b) { return b; })) return;
  for (int64_t i = 0; i < source.size(); ++i) {
    const IndexEntry entry = source.entry(i);
    if (is_complete[entry.field_set]) {
      chosen_[s].push_back(static_cast<uint32_t>(i));
      continue;
    }
    std::string message;
    try {
      const Sample sample = read({s, entry});
      require_fields(sample, options_.required_fields, paths_[s] + ": sample " + sample.key);
    } catch (const DataError& error) {
      message = error.what();
    }
    reject(message);
  }
  if (chosen_[s].empty()) sources_[s] = SourceIndexWriter().in_memory(json::object());
}

void Dataset::reject(const std::string& message) {
  if (!options_.skip_bad_samples) {
    throw DataError(message +
                    ". Repair it, or allow bad samples to be skipped "
                    "(data.NAME.on_bad_sample = \"skip\").");
  }
  bad_.add(message);
}

Dataset::Place Dataset::place_of(int64_t index) const {
  if (index < 0 || index >= size_) throw std::out_of_range("Dataset: no sample of that index");
  const auto after = std::upper_bound(first_.begin(), first_.end(), index);
  const auto source = static_cast<size_t>(after - first_.begin() - 1);
  int64_t inside = index - first_[source];
  if (!chosen_[source].empty()) inside = chosen_[source][static_cast<size_t>(inside)];
  return {source, sources_[source].entry(inside)};
}

Sample Dataset::read(const Place& place, std::vector<json>* pictures) const {
  const std::string name = "the index of " + paths_[place.source];
  const std::string_view text = sources_[place.source].text(place.entry);
  json fields = parse_object({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, name);
  const std::string key = fields.value("__key__", "");
  std::vector<json> places = fields.value("__further__", std::vector<json>());
  places.insert(places.begin(), fields.contains("__image__")
                                    ? fields["__image__"]
                                    : json{place.entry.image_offset, place.entry.image_size});
  for (const char* own : {"__key__", "__image__", "__further__"}) fields.erase(own);
  for (const auto& [from, to] : options_.rename) {
    if (!fields.contains(from)) continue;
    fields[to] = fields[from];
    fields.erase(from);
  }
  Sample sample = sample_of(fields, name, std::vector<std::string>(places.size()));
  sample.key = key;
  if (pictures != nullptr) *pictures = std::move(places);
  return sample;
}

Image Dataset::picture(size_t source, const json& place) const {
  std::string name;
  std::vector<uint8_t> bytes;
  if (place.is_array()) {
    const ReadOnlyFile& container = *containers_[source];
    name = container.path() + ": picture at byte " + std::to_string(place.at(0).get<int64_t>());
    bytes = container.read(place.at(0), place.at(1));
  } else {
    // Absolute names stay as they are.
    name = (fs::path(paths_[source]) / place.get<std::string>()).string();
    const ReadOnlyFile file(name);
    bytes = file.read(0, file.size());
  }
  Image image = decode_image(bytes, name);
  return options_.image_size > 0 ? fit_square(image, options_.image_size, options_.fit) : image;
}

Sample Dataset::describe(int64_t index) const { return read(place_of(index)); }

Sample Dataset::get(int64_t index) const {
  const Place place = place_of(index);
  std::vector<json> pictures;
  Sample sample = read(place, &pictures);
  sample.image = picture(place.source, pictures.front());
  for (size_t i = 1; i < pictures.size(); ++i) {
    sample.further.push_back(picture(place.source, pictures[i]));
  }
  return sample;
}

double Dataset::pictures_per_sample() const {
  int64_t samples = 0, pictures = 0;
  for (const SourceIndex& source : sources_) {
    samples += source.size();
    pictures += source.pictures();
  }
  return samples == 0 ? 1.0 : static_cast<double>(pictures) / static_cast<double>(samples);
}

int64_t Dataset::size_bytes() const {
  int64_t bytes = 0;
  for (const std::string& path : paths_) bytes += bytes_at(path);
  return bytes;
}

std::vector<std::pair<std::string, int64_t>> Dataset::fields() const {
  std::map<std::string, int64_t> counts;
  for (const SourceIndex& source : sources_) {
    for (const FieldSet& set : source.field_sets()) {
      for (const std::string& field : set.fields) counts[renamed(field)] += set.count;
    }
  }
  return {counts.begin(), counts.end()};
}

std::vector<std::string> Dataset::notes() const {
  std::vector<std::string> all;
  for (size_t s = 0; s < sources_.size(); ++s) {
    for (const std::string& note : sources_[s].notes()) all.push_back(paths_[s] + ": " + note);
  }
  return all;
}

}  // namespace espalier
