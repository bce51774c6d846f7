#include "data/episodes/episode_index.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <xxhash.h>

#include "data/digest_text.h"
#include "data/episodes/json_fields.h"
#include "data/errors.h"
#include "data/images/image_codec.h"
#include "data/shards/tar_index.h"

namespace espalier {
namespace {

constexpr int64_t kTarBlock = 512;
constexpr int64_t kMaxIndexBytes = int64_t{256} << 20;
constexpr int64_t kMaxSide = 4096;
constexpr int64_t kMaxValues = 65536;         // of an action or a state
constexpr int64_t kMaxStripRows = 1'000'000;  // libpng reads no more
constexpr const char* kRemedy = " Fetch the data set again, or prepare it again.";

std::string folder_of(const std::string& index) {
  return std::filesystem::path(index).parent_path().string();
}

// A view's name becomes a part of member names.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.find_first_of("./\\") == std::string::npos;
}

bool is_key(const std::string& key) {
  return key.size() == 8 && key.find_first_not_of("0123456789") == std::string::npos;
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

bool has(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

SeedRange seeds_of(const JsonFields& fields, const char* key) {
  const auto range = fields.range(key);
  return {range[0], range[1]};
}

class IndexReader {
 public:
  IndexReader(const nlohmann::json& json, const std::string& path) : top_(json, path) {
    index_.path = path;
  }

  EpisodeIndex run() {
    take_format();
    take_origin();
    take_images();
    take_vectors();
    take_tasks();
    take_splits();
    take_shards();
    require_sums();
    return std::move(index_);
  }

 private:
  void take_format() {
    if (top_.text("format") != "espalier-episodes") top_.fail("format", "\"espalier-episodes\"");
    top_.integer("version", 1, 1);
  }

  void take_origin() {
    index_.name = top_.text("name");
    index_.simulator = top_.text("simulator");
    index_.expert = top_.text("expert");
    index_.command = top_.text("command");
    const JsonFields packages = top_.object("packages");
    for (const std::string& key : packages.keys())
      index_.packages[key] = packages.text(key.c_str());
  }

  void take_images() {
    const JsonFields image = top_.object("image");
    index_.views = image.distinct_texts("views");
    if (index_.views.empty() ||
        !std::all_of(index_.views.begin(), index_.views.end(), is_plain_name))
      image.fail("views", "at least one name without dots and slashes");
    index_.height = image.integer("height", 1, kMaxSide);
    index_.width = image.integer("width", 1, kMaxSide);
    image.integer("channels", 3, 3);
    index_.depth_views = views_in(top_, "depth");
    index_.segmentation_views = views_in(top_, "segmentation");
    if (has(top_.keys(), "trajectory")) take_trajectories(top_.object("trajectory"));
  }

  void take_trajectories(const JsonFields& fields) {
    EpisodeTrajectories& found = index_.trajectories;
    found.views = views_in(fields, "views");
    found.ahead = fields.integer("ahead", 1, kMaxStripRows);
    found.cell = fields.integer("cell", 1, std::min(index_.height, index_.width));
    if (index_.height % found.cell != 0 || index_.width % found.cell != 0)
      fields.fail("cell", "a divisor of the images' sides");
  }

  std::vector<std::string> views_in(const JsonFields& fields, const char* key) const {
    std::vector<std::string> list = fields.distinct_texts(key);
    for (const std::string& view : list) {
      if (!has(index_.views, view)) fields.fail(key, "only names of image.views");
    }
    return list;
  }

  void take_vectors() {
    const JsonFields action = top_.object("action");
    const std::string kind = action.text("kind");
    if (kind != "discrete" && kind != "continuous")
      action.fail("kind", "\"discrete\" or \"continuous\"");
    index_.action_kind = kind == "discrete" ? ActionKind::kDiscrete : ActionKind::kContinuous;
    index_.action_names = names_in(action, 1);
    index_.state_names = names_in(top_.object("state"), 0);
    index_.action_mean = top_.numbers("action_mean", index_.action_size());
    index_.action_std = deviations("action_std", index_.action_size());
    index_.state_mean = top_.numbers("state_mean", index_.state_size());
    index_.state_std = deviations("state_std", index_.state_size());
  }

  static std::vector<std::string> names_in(const JsonFields& fields, int64_t min) {
    const int64_t size = fields.integer("size", min, kMaxValues);
    std::vector<std::string> names = fields.distinct_texts("names");
    if (std::ssize(names) != size)
      fields.fail("names", std::to_string(size) + " names, as size says");
    return names;
  }

  // Values are divided by these.
  std::vector<float> deviations(const char* key, int64_t size) const {
    std::vector<float> list = top_.numbers(key, size);
    // 1e-3 as text becomes a float a little below or above it.
    if (std::any_of(list.begin(), list.end(), [](float value) { return value < 0.999e-3F; }))
      top_.fail(key, "deviations of at least 0.001");
    return list;
  }

  void take_tasks() {
    index_.tasks = top_.distinct_texts("tasks");
    if (index_.tasks.empty()) top_.fail("tasks", "at least one task");
    const JsonFields limits = top_.object("max_steps");
    for (const std::string& task : index_.tasks)
      index_.max_steps[task] = limits.integer(task.c_str(), 1, kMaxStripRows);
    index_.words = top_.distinct_texts("words");
    if (!std::is_sorted(index_.words.begin(), index_.words.end()))
      top_.fail("words", "sorted words");
  }

  void take_splits() {
    const JsonFields splits = top_.object("splits");
    std::vector<std::pair<SeedRange, std::string>> ranges;
    for (const char* name : kEpisodeSplits) {
      const JsonFields fields = splits.object(name);
      const SeedRange seeds = seeds_of(fields, "seeds");
      index_.splits[name] = {seeds, fields.integer("episodes", 0, INT64_MAX),
                             fields.integer("steps", 0, INT64_MAX)};
      ranges.emplace_back(seeds, fields.path_of("seeds"));
    }
    if (splits.keys().size() != kEpisodeSplits.size())
      top_.fail("splits", "train, validation and test, and no other");
    index_.unseen_seeds = seeds_of(top_, "unseen_seeds");
    ranges.emplace_back(index_.unseen_seeds, "unseen_seeds");
    std::sort(ranges.begin(), ranges.end(),
              [](const auto& a, const auto& b) { return a.first.first < b.first.first; });
    for (size_t i = 1; i < ranges.size(); ++i) {
      if (ranges[i].first.first <= ranges[i - 1].first.last)
        fail("fields \"" + ranges[i - 1].second + "\" and \"" + ranges[i].second +
             "\" overlap; expected seeds in one split only");
    }
  }

  void take_shards() {
    for (const JsonFields& fields : top_.objects("shards")) {
      EpisodeShard shard;
      const std::string file = fields.text("file");
      // A file beside the index, whatever a downloaded index says.
      if (file.find_first_of("/\\") != std::string::npos || file[0] == '.' ||
          !files_.insert(file).second)
        fields.fail("file", "the name of a file in the folder of the index, each once");
      shard.path = (std::filesystem::path(folder_of(index_.path)) / file).string();
      shard.split = fields.text("split");
      if (!index_.splits.contains(shard.split)) fields.fail("split", "train, validation or test");
      shard.bytes = fields.integer("bytes", kTarBlock, INT64_MAX);
      shard.sha256 = fields.text("sha256");
      if (!is_sha256(shard.sha256)) fields.fail("sha256", "64 lower-case hexadecimal digits");
      int64_t end = 0;
      for (const JsonFields& episode : fields.objects("episodes")) {
        shard.episodes.push_back(episode_of(episode, shard, end));
        end = shard.episodes.back().offset + shard.episodes.back().bytes;
      }
      index_.shards.push_back(std::move(shard));
    }
    if (index_.shards.empty()) top_.fail("shards", "at least one shard");
  }

  // `previous_end` is where the episode before it in the shard ends.
  EpisodeEntry episode_of(const JsonFields& fields, const EpisodeShard& shard,
                          int64_t previous_end) {
    EpisodeEntry entry;
    entry.key = fields.text("key");
    if (!is_key(entry.key) || !keys_.insert(entry.key).second)
      fields.fail("key", "8 digits that no other episode has");
    entry.task = fields.text("task");
    if (!index_.max_steps.contains(entry.task)) fields.fail("task", "one of \"tasks\"");
    entry.steps = fields.integer("steps", 1, index_.max_steps.at(entry.task));
    if (entry.steps > kMaxStripRows / index_.height ||
        entry.steps > kMaxImagePixels / (index_.height * index_.width)) {
      fields.fail("steps", "at most " + std::to_string(kMaxStripRows) + " rows and " +
                               std::to_string(kMaxImagePixels) + " pixels in a strip of frames");
    }
    entry.offset = fields.integer("offset", previous_end, shard.bytes - kTarBlock);
    entry.bytes = fields.integer("bytes", kTarBlock, shard.bytes - entry.offset);
    if (entry.offset % kTarBlock != 0) fields.fail("offset", "a multiple of 512");
    if (entry.bytes % kTarBlock != 0) fields.fail("bytes", "a multiple of 512");
    return entry;
  }

  void require_sums() const {
    std::map<std::string, EpisodeSplit> sums;
    for (const EpisodeShard& shard : index_.shards) {
      EpisodeSplit& sum = sums[shard.split];
      sum.episodes += std::ssize(shard.episodes);
      for (const EpisodeEntry& entry : shard.episodes) sum.steps += entry.steps;
    }
    const JsonFields splits = top_.object("splits");
    for (const auto& [name, split] : index_.splits) {
      const JsonFields fields = splits.object(name.c_str());
      const auto expect = [&](const char* key, int64_t said, int64_t sum) {
        if (said != sum) fields.fail(key, std::to_string(sum) + ", the sum over its shards");
      };
      expect("episodes", split.episodes, sums[name].episodes);
      expect("steps", split.steps, sums[name].steps);
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(index_.path + ": " + what);
  }

  JsonFields top_;
  EpisodeIndex index_;
  std::set<std::string> files_;
  std::set<std::string> keys_;
};

void check_size(const EpisodeShard& shard) {
  std::error_code error;
  const auto size = std::filesystem::file_size(shard.path, error);
  if (error)
    throw DataError(shard.path + ": a shard of the index that cannot be read: " + error.message() +
                    "." + kRemedy);
  const auto bytes = static_cast<int64_t>(size);
  if (bytes == shard.bytes) return;
  std::string cut;
  const auto first_cut =
      std::find_if(shard.episodes.begin(), shard.episodes.end(),
                   [&](const EpisodeEntry& entry) { return entry.offset + entry.bytes > bytes; });
  if (first_cut != shard.episodes.end()) {
    cut = ": it is truncated, first in episode " + first_cut->key + " at byte " +
          std::to_string(first_cut->offset) + ", which needs " + std::to_string(first_cut->bytes);
  }
  throw DataError(shard.path + ": " + std::to_string(bytes) + " bytes; the index says " +
                  std::to_string(shard.bytes) + cut + "." + kRemedy);
}

}  // namespace

const char* name_of(ActionKind kind) {
  return kind == ActionKind::kDiscrete ? "discrete" : "continuous";
}

bool is_episode_path(const std::string& path) {
  std::error_code ignored;
  return path.ends_with(".json") || std::filesystem::is_directory(path, ignored);
}

EpisodeIndex read_episode_index(const std::string& path) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  const std::string file_path =
      is_folder ? (std::filesystem::path(path) / "index.json").string() : path;
  const ReadOnlyFile file(file_path);
  if (file.size() > kMaxIndexBytes)
    throw DataError(file_path + ": above 256 MiB; expected an index");
  const std::vector<uint8_t> bytes = file.read(0, file.size());
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  try {
    const nlohmann::json json = parse_json_object(text, file_path);
    EpisodeIndex index = IndexReader(json, file_path).run();
    for (const EpisodeShard& shard : index.shards) check_size(shard);
    return index;
  } catch (const DataError& error) {
    const std::string message = error.what();
    throw DataError(message.ends_with(kRemedy) ? message : message + "." + kRemedy);
  }
}

std::string EpisodeIndex::fingerprint() const {
  std::string text;
  for (const EpisodeShard& shard : shards) text += shard.split + " " + shard.sha256 + "\n";
  for (const std::string& word : words) text += word + "\n";
  for (const auto* list : {&action_mean, &action_std, &state_mean, &state_std}) {
    for (const float value : *list) {
      std::array<char, 32> digits{};
      std::snprintf(digits.data(), digits.size(), "%.9g\n", static_cast<double>(value));
      text += digits.data();
    }
  }
  return digest_text(XXH3_128bits(text.data(), text.size()));
}

}  // namespace espalier
