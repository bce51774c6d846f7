#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "comm/collectives/combine.h"
#include "comm/collectives/link.h"
#include "comm/collectives/schedule.h"

namespace espalier {

// How a tensor falls into pieces, and a piece into cells, all of which fit into a slot.
struct Layout {
  std::byte* data = nullptr;
  int64_t element_bytes = 1;
  int64_t elements = 0;       // all; with `has_rows`, of one row
  int64_t cell_elements = 1;  // at most, in one cell
  int cells = 1;
  bool has_rows = false;  // cell n is a slice of row n; without, pieces are divided evenly

  struct Range {
    std::byte* data = nullptr;
    int64_t count = 0;  // of elements
  };
  int64_t pieces() const;
  Range range(int64_t piece, Cells cells) const;
};

// A layout whose hops fit into slots of `slot_bytes`, and which has enough pieces, of at least a
// few KiB, for ranks to work at different hops at the same time.
Layout divided_layout(std::byte* data, int64_t elements, int64_t element_bytes,
                      const Schedule& schedule, int64_t slot_bytes);
Layout row_layout(std::byte* data, int64_t row_bytes, const Schedule& schedule, int64_t slot_bytes);

struct RingLinks {
  Sender* next = nullptr;
  Receiver* previous = nullptr;
};
using Links = std::array<RingLinks, kRings>;

// Carries out a schedule on a layout, as far as the links allow at each call.
//
// Note [One order of hops]: all ranks go through the (piece, hop) pairs in one order, which lets
// piece n begin while piece n-1 is a few hops ahead; sends and receives each keep to it. So a line
// needs no tags, and nobody can wait in a circle: the first pair in that order that somebody has
// yet to do can always be done, since everything before it has been received.
class Relay {
 public:
  Relay(const Schedule& schedule, const Layout& layout, combine::Function combine,
        const Links& links);

  bool advance();  // whether anything moved
  bool is_done() const { return sends_.is_done() && receives_.is_done(); }

  // Whom it waits for, when advance() did nothing: the ring, and whether for the one before.
  struct Obstacle {
    RingName ring = RingName::kWorld;
    bool is_previous = false;
  };
  Obstacle obstacle() const;

 private:
  // Goes through the pairs: front by front, and in a front the pieces that are farthest first.
  class Cursor {
   public:
    Cursor(int64_t pieces, int64_t hops);
    bool is_done() const { return front_ >= fronts_; }
    int64_t piece() const { return front_ - kLead * hop_; }
    int64_t hop() const { return hop_; }
    bool has_passed(int64_t piece, int64_t hop) const;
    void next();

   private:
    // Between hops of one piece, so that a hop has arrived by the time it is to be passed on.
    static constexpr int64_t kLead = 3;
    void enter_front();

    int64_t pieces_, hops_, fronts_;
    int64_t front_ = 0;
    int64_t hop_ = 0;
  };

  bool send_one();
  bool receive_one();
  const Hop& hop_at(const Cursor& cursor) const { return schedule_.hops[cursor.hop()]; }

  const Schedule& schedule_;
  const Layout layout_;
  const combine::Function combine_;
  const Links& links_;
  Cursor sends_;
  Cursor receives_;
};

}  // namespace espalier
