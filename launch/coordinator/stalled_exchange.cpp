#include "launch/coordinator/stalled_exchange.h"

#include <algorithm>
#include <cstdint>

namespace espalier {
namespace {

constexpr size_t kNamed = 16;  // ranks; of thousands the first ones tell enough

std::string list_of(const std::vector<size_t>& ranks) {
  std::string out = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size() && i < kNamed; ++i) {
    out += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  }
  if (ranks.size() > kNamed) out += " and " + std::to_string(ranks.size() - kNamed) + " more";
  return out;
}

}  // namespace

std::string describe_stalled_exchange(const std::vector<RankView>& ranks) {
  // Ranks number their operations alike, so the one with the highest number is the furthest.
  const BeatMessage::Exchange* furthest = nullptr;
  for (const RankView& view : ranks) {
    if (!view.exchange || view.exchange->waits_for.empty()) continue;
    if (furthest == nullptr || view.exchange->finished > furthest->finished) {
      furthest = &*view.exchange;
    }
  }
  if (furthest == nullptr) return "";
  const uint64_t awaited = furthest->finished + 1;
  std::vector<size_t> there;
  std::vector<size_t> missing;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const auto& exchange = ranks[rank].exchange;
    if (!exchange) continue;
    (exchange->issued >= awaited ? there : missing).push_back(rank);
  }
  std::string text = furthest->waits_for + ", operation " + std::to_string(awaited) + ": " +
                     list_of(there) + (there.size() == 1 ? " waits in it" : " wait in it");
  if (!missing.empty()) {
    text += ", " + list_of(missing) + (missing.size() == 1 ? " has" : " have") + " not come to it";
  }
  return text;
}

}  // namespace espalier
