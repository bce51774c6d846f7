#include "models/attention/attention_plan.h"

#include <torch/torch.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>

#include "models/attention/attention_units.h"
#include "models/layers/packed_upload.h"

namespace espalier {
namespace {

using Numbers = std::vector<int64_t>;

// A piece of fewer queries than this wastes most of what its kernel call costs.
constexpr int64_t kFewQueries = 32;

// Units with the same keys.
struct QueryClass {
  Numbers keys;
  std::vector<const AttentionUnit*> units;
  int64_t queries = 0;
  const QueryClass* host = nullptr;  // its piece has these queries too
};

std::vector<QueryClass> make_classes(const std::vector<MaskGroup>& groups,
                                     const std::vector<AttentionUnit>& units) {
  std::vector<QueryClass> classes;
  std::map<Numbers, size_t> class_of;
  for (const AttentionUnit& unit : units) {
    const auto [found, is_new] = class_of.try_emplace(unit.keys, classes.size());
    if (is_new) classes.push_back({unit.keys, {}, 0, nullptr});
    classes[found->second].units.push_back(&unit);
    classes[found->second].queries += tokens_of(groups, unit.groups);
  }
  for (QueryClass& few : classes) {
    if (few.queries >= kFewQueries) continue;
    int64_t most = 0;
    for (const QueryClass& many : classes) {
      const bool fits =
          &many != &few && many.host == nullptr && many.queries >= kFewQueries &&
          many.keys.size() < few.keys.size() &&
          std::includes(few.keys.begin(), few.keys.end(), many.keys.begin(), many.keys.end());
      const int64_t shared = fits ? tokens_of(groups, many.keys) : 0;
      if (shared > most) {
        most = shared;
        few.host = &many;
      }
    }
  }
  return classes;
}

// What a piece will be, before keys have places.
struct Draft {
  AttentionPiece piece;
  Numbers key_rows;
};

struct Layout {
  Numbers query_rows;  // rows in the plan's order of queries
  std::vector<Draft> drafts;
};

class LayoutBuilder {
 public:
  LayoutBuilder(const std::vector<MaskGroup>& groups, const std::vector<QueryClass>& classes)
      : groups_(groups), classes_(classes) {}

  Layout build() {
    for (const QueryClass& one : classes_) {
      if (one.host == nullptr) add_class(one);
    }
    return std::move(layout_);
  }

 private:
  int64_t place() const { return static_cast<int64_t>(layout_.query_rows.size()); }

  Numbers rows(const Numbers& numbers) const {
    Numbers all;
    for (const int64_t number : numbers) {
      const Numbers own = rows_of(groups_[static_cast<size_t>(number)]);
      all.insert(all.end(), own.begin(), own.end());
    }
    return all;
  }

  void add_class(const QueryClass& one) {
    const int64_t first = place();
    const size_t draft = layout_.drafts.size();
    if (!one.keys.empty()) layout_.drafts.push_back({AttentionPiece(), rows(one.keys)});
    add_units(one);
    for (const QueryClass& few : classes_) {
      if (few.host != &one) continue;
      Numbers rest;
      std::set_difference(few.keys.begin(), few.keys.end(), one.keys.begin(), one.keys.end(),
                          std::back_inserter(rest));
      const int64_t from = place();
      add_units(few);
      AttentionPiece piece;
      piece.query_first = from;
      piece.query_count = place() - from;
      piece.is_first = false;
      layout_.drafts.push_back({piece, rows(rest)});
    }
    if (one.keys.empty()) return;
    layout_.drafts[draft].piece.query_first = first;
    layout_.drafts[draft].piece.query_count = place() - first;
  }

  void add_units(const QueryClass& one) {
    for (const AttentionUnit* unit : one.units) {
      const Numbers own = rows(unit->groups);
      if (unit->is_causal) {
        AttentionPiece piece;
        piece.query_first = place();
        piece.query_count = static_cast<int64_t>(own.size());
        piece.is_causal = true;
        piece.is_first = one.keys.empty();
        layout_.drafts.push_back({piece, own});
      }
      layout_.query_rows.insert(layout_.query_rows.end(), own.begin(), own.end());
    }
  }

  const std::vector<MaskGroup>& groups_;
  const std::vector<QueryClass>& classes_;
  Layout layout_;
};

bool is_identity(const Numbers& order) {
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] != static_cast<int64_t>(i)) return false;
  }
  return true;
}

Numbers inverse(const Numbers& order) {
  Numbers places(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    places[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  }
  return places;
}

// Where the keys of a draft lie; sorted where their order does not matter.
Numbers places_of(const Draft& draft, const Numbers& place_of_row) {
  Numbers places;
  for (const int64_t row : draft.key_rows) {
    places.push_back(place_of_row[static_cast<size_t>(row)]);
  }
  if (!draft.piece.is_causal) std::sort(places.begin(), places.end());
  return places;
}

bool is_consecutive(const Numbers& places) {
  for (size_t i = 1; i < places.size(); ++i) {
    if (places[i] != places[i - 1] + 1) return false;
  }
  return true;
}

int64_t rows_to_gather(const std::vector<Draft>& drafts, const Numbers& place_of_row) {
  int64_t rows = 0;
  for (const Draft& draft : drafts) {
    const Numbers places = places_of(draft, place_of_row);
    if (!is_consecutive(places)) rows += static_cast<int64_t>(places.size());
  }
  return rows;
}

// As the rows lie, or what most queries see first: then sets that contain one another begin alike.
Numbers choose_key_order(const std::vector<MaskGroup>& groups,
                         const std::vector<QueryClass>& classes, const std::vector<Draft>& drafts,
                         int64_t rows) {
  Numbers as_they_lie(static_cast<size_t>(rows));
  std::iota(as_they_lie.begin(), as_they_lie.end(), 0);
  Numbers seen_by(groups.size());
  for (const QueryClass& one : classes) {
    for (const int64_t key : one.keys) seen_by[static_cast<size_t>(key)] += one.queries;
  }
  Numbers by_sight(groups.size());
  std::iota(by_sight.begin(), by_sight.end(), 0);
  std::stable_sort(by_sight.begin(), by_sight.end(), [&](int64_t a, int64_t b) {
    const auto i = static_cast<size_t>(a);
    const auto j = static_cast<size_t>(b);
    return std::pair(-seen_by[i], groups[i].first) < std::pair(-seen_by[j], groups[j].first);
  });
  Numbers order;
  for (const int64_t number : by_sight) {
    const Numbers own = rows_of(groups[static_cast<size_t>(number)]);
    order.insert(order.end(), own.begin(), own.end());
  }
  return rows_to_gather(drafts, inverse(order)) < rows_to_gather(drafts, as_they_lie) ? order
                                                                                      : as_they_lie;
}

void set_order(const Numbers& order, at::Tensor& to_order, at::Tensor& to_place) {
  if (is_identity(order)) return;
  to_order = at::tensor(order, at::kLong);
  to_place = at::tensor(inverse(order), at::kLong);
}

}  // namespace

AttentionPlan make_attention_plan(const std::vector<MaskGroup>& groups) {
  const std::vector<AttentionUnit> units = make_attention_units(groups);
  const std::vector<QueryClass> classes = make_classes(groups, units);
  Layout layout = LayoutBuilder(groups, classes).build();
  AttentionPlan plan;
  const Numbers positions = positions_of_rows(groups);
  const auto rows = std::ssize(positions);
  plan.positions = at::tensor(positions, at::kLong);

  // Queries are numbered as their rows, without the rows that do not ask.
  Numbers asking = layout.query_rows;
  std::sort(asking.begin(), asking.end());
  Numbers query_order;
  for (const int64_t row : layout.query_rows) {
    query_order.push_back(std::lower_bound(asking.begin(), asking.end(), row) - asking.begin());
  }
  if (std::ssize(asking) != rows) plan.query_rows = at::tensor(asking, at::kLong);
  set_order(query_order, plan.query_order, plan.query_place);
  const Numbers key_order = choose_key_order(groups, classes, layout.drafts, rows);
  set_order(key_order, plan.key_order, plan.key_place);
  const Numbers key_place = inverse(key_order);
  for (Draft& draft : layout.drafts) {
    const Numbers places = places_of(draft, key_place);
    draft.piece.key_first = places.front();
    draft.piece.key_count = static_cast<int64_t>(places.size());
    if (!is_consecutive(places)) draft.piece.key_places = at::tensor(places, at::kLong);
    plan.pieces.push_back(draft.piece);
  }
  plan.batch = make_sequence_batch(groups);
  return plan;
}

AttentionPlan on_device(AttentionPlan plan, at::Device device) {
  std::vector<at::Tensor*> indices = {&plan.query_order, &plan.query_place, &plan.key_order,
                                      &plan.key_place,   &plan.query_rows,  &plan.positions};
  for (AttentionPiece& piece : plan.pieces) indices.push_back(&piece.key_places);
  if (plan.batch) indices.push_back(&plan.batch->cells);
  upload_together(indices, device);
  return plan;
}

}  // namespace espalier
