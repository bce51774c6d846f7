#include "data/episodes/episode_parser.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

#include "data/episodes/array_member.h"
#include "data/episodes/json_fields.h"
#include "data/errors.h"
#include "data/images/image_codec.h"

namespace espalier {
namespace {

constexpr int64_t kMaxFieldBytes = int64_t{1} << 20;

using Arrays = std::map<std::string, ArrayMember>;
using Shape = std::vector<int64_t>;

// The names that an episode's members must have, in their order.
std::vector<std::string> member_names(const EpisodeIndex& index, const std::string& key) {
  std::vector<std::string> names = {key + ".json"};
  for (const std::string& view : index.views) names.push_back(key + "." + view + ".png");
  names.push_back(key + ".safetensors");
  return names;
}

class EpisodeParser {
 public:
  EpisodeParser(const EpisodeIndex& index, SeedRange seeds, const EpisodeEntry& entry,
                const ReadOnlyFile& file)
      : index_(index), seeds_(seeds), entry_(entry), file_(file) {}

  Episode run() {
    const std::vector<TarMember> members = find_members();
    episode_.key = entry_.key;
    episode_.task = entry_.task;
    episode_.steps = entry_.steps;
    take_description(members.front());
    for (size_t view = 0; view < index_.views.size(); ++view) take_frames(members[1 + view]);
    take_arrays(members.back());
    return std::move(episode_);
  }

 private:
  std::vector<TarMember> find_members() const {
    const int64_t end = entry_.offset + entry_.bytes;
    std::vector<TarMember> members =
        index_tar_part(file_, entry_.offset, end, "its part of the archive");
    const std::vector<std::string> expected = member_names(index_, entry_.key);
    for (size_t i = 0; i < std::max(members.size(), expected.size()); ++i) {
      if (i < members.size() && i < expected.size() && members[i].name == expected[i]) continue;
      throw DataError((i < members.size() ? "member " + members[i].name + " at byte " +
                                                std::to_string(members[i].offset)
                                          : std::string("no more members")) +
                      "; expected " + (i < expected.size() ? expected[i] : "no more members"));
    }
    return members;
  }

  std::string name_of_member(const TarMember& member) const {
    return "member " + member.name + " at byte " + std::to_string(member.offset);
  }

  void take_description(const TarMember& member) {
    const std::string name = name_of_member(member);
    if (member.size > kMaxFieldBytes) throw DataError(name + ": JSON above 1 MiB");
    const std::vector<uint8_t> bytes = file_.read(member.offset, member.size);
    const nlohmann::json json = parse_json_object(
        std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), name);
    const JsonFields fields(json, name);
    episode_.instruction = fields.text("instruction");
    episode_.seed = fields.integer("seed", seeds_.first, seeds_.last);
    episode_.success = fields.flag("success");
    if (fields.text("task") != entry_.task)
      fields.fail("task", "\"" + entry_.task + "\", as in the index");
    fields.integer("steps", entry_.steps, entry_.steps);
  }

  void take_frames(const TarMember& member) {
    const std::vector<uint8_t> png = file_.read(member.offset, member.size);
    const int64_t rows = entry_.steps * index_.height;
    std::vector<uint8_t> frames(static_cast<size_t>(3 * rows * index_.width));
    decode_rgb_png(png, index_.width, rows, frames, name_of_member(member));
    episode_.frames.push_back(std::move(frames));
  }

  void take_arrays(const TarMember& member) {
    array_file_ = name_of_member(member);
    const std::vector<uint8_t> bytes = file_.read(member.offset, member.size);
    const Arrays arrays = parse_array_members(bytes, array_file_);
    const Shape pixels = {entry_.steps, index_.height, index_.width};
    size_t expected = 2;
    episode_.actions = finite(arrays, "actions", {entry_.steps, index_.action_size()});
    check_actions();
    episode_.state = finite(arrays, "state", {entry_.steps, index_.state_size()});
    for (const std::string& view : index_.depth_views) {
      episode_.depth.push_back(finite(arrays, "depth." + view, pixels));
      const auto& depth = episode_.depth.back();
      if (std::any_of(depth.begin(), depth.end(), [](float metres) { return metres < 0; }))
        throw DataError(array_file_ + ": depth." + view + " has a distance below zero");
      ++expected;
    }
    for (const std::string& view : index_.segmentation_views) {
      episode_.segmentation.push_back(
          bytes_of(array(arrays, "segmentation." + view, ArrayType::kU8, pixels)));
      ++expected;
    }
    const EpisodeTrajectories& moves = index_.trajectories;
    for (const std::string& view : moves.views) {
      episode_.trajectories.push_back(
          finite(arrays, "trajectory." + view,
                 {entry_.steps, index_.height / moves.cell, index_.width / moves.cell, 2}));
      ++expected;
    }
    if (arrays.size() != expected)
      throw DataError(array_file_ + ": " + std::to_string(arrays.size()) +
                      " arrays; the index has " + std::to_string(expected));
  }

  const ArrayMember& array(const Arrays& arrays, const std::string& name, ArrayType type,
                           const Shape& shape) const {
    const auto found = arrays.find(name);
    const bool is_there = found != arrays.end();
    if (is_there && found->second.type == type && found->second.shape == shape)
      return found->second;
    throw DataError(array_file_ + ": array \"" + name + "\" is " +
                    (is_there ? describe(found->second.type, found->second.shape) : "missing") +
                    "; expected " + describe(type, shape));
  }

  std::vector<float> finite(const Arrays& arrays, const std::string& name,
                            const Shape& shape) const {
    std::vector<float> values = floats_of(array(arrays, name, ArrayType::kF32, shape));
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [](float value) { return !std::isfinite(value); });
    if (bad != values.end()) {
      const int64_t a_step = std::ssize(values) / entry_.steps;
      throw DataError(array_file_ + ": array \"" + name + "\" has " +
                      (std::isnan(*bad) ? "a NaN" : "an infinite value") + " in step " +
                      std::to_string((bad - values.begin()) / a_step) + "; expected finite values");
    }
    return values;
  }

  void check_actions() const {
    const int64_t size = index_.action_size();
    for (int64_t step = 0; step < entry_.steps; ++step) {
      const float* action = episode_.actions.data() + step * size;
      const bool is_discrete = index_.action_kind == ActionKind::kDiscrete;
      const bool is_good = is_discrete ? std::count(action, action + size, 1.0F) == 1 &&
                                             std::count(action, action + size, 0.0F) == size - 1
                                       : std::all_of(action, action + size,
                                                     [](float x) { return -1 <= x && x <= 1; });
      if (!is_good)
        throw DataError(array_file_ + ": the action of step " + std::to_string(step) +
                        (is_discrete ? " is not one-hot" : " is not within [-1, 1]"));
    }
  }

  const EpisodeIndex& index_;
  const SeedRange seeds_;
  const EpisodeEntry& entry_;
  const ReadOnlyFile& file_;
  std::string array_file_;
  Episode episode_;
};

}  // namespace

Episode parse_episode(const EpisodeIndex& index, SeedRange seeds, const EpisodeEntry& entry,
                      const ReadOnlyFile& file) {
  return EpisodeParser(index, seeds, entry, file).run();
}

}  // namespace espalier
