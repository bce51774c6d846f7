#include "comm/collectives/relay.h"

#include <algorithm>
#include <cstring>

namespace espalier {
namespace {

constexpr int64_t kLineBytes = 64;  // cells begin at cache lines
constexpr int64_t kSmallestCell = 4096;
constexpr int64_t kPiecesWanted = 4;

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

// Elements of a cell so that `total` elements make a few pieces of `cells` cells.
int64_t choose_cell(int64_t total, int64_t element_bytes, int64_t cells, int64_t most_bytes) {
  const int64_t wanted = divide_up(total * element_bytes, cells * kPiecesWanted);
  const int64_t bytes = std::clamp(wanted, std::min(kSmallestCell, most_bytes), most_bytes);
  return std::max<int64_t>(round_up(bytes, kLineBytes) / element_bytes, 1);
}

}  // namespace

int64_t Layout::pieces() const {
  return divide_up(elements, has_rows ? cell_elements : cell_elements * cells);
}

Layout::Range Layout::range(int64_t piece, Cells run) const {
  const int64_t step = has_rows ? cell_elements : cell_elements * cells;
  const int64_t begin = piece * step;
  const int64_t count = std::min(step, elements - begin);
  if (has_rows) return {data + (run.begin * elements + begin) * element_bytes, count};
  // The last piece too is divided evenly, in whole cache lines.
  const int64_t line = std::max<int64_t>(kLineBytes / element_bytes, 1);
  const int64_t width = std::min(round_up(divide_up(count, cells), line), cell_elements);
  const int64_t first = std::min(run.begin * width, count);
  const int64_t last = std::min(run.end * width, count);
  return {data + (begin + first) * element_bytes, last - first};
}

Layout divided_layout(std::byte* data, int64_t elements, int64_t element_bytes,
                      const Schedule& schedule, int64_t slot_bytes) {
  const int64_t most = slot_bytes / schedule.widest_hop() / kLineBytes * kLineBytes;
  Layout layout{data, element_bytes, elements, 1, schedule.cells, /*has_rows=*/false};
  layout.cell_elements = choose_cell(elements, element_bytes, schedule.cells, most);
  return layout;
}

Layout row_layout(std::byte* data, int64_t row_bytes, const Schedule& schedule,
                  int64_t slot_bytes) {
  Layout layout{data, 1, row_bytes, 1, schedule.cells, /*has_rows=*/true};
  layout.cell_elements = choose_cell(row_bytes, 1, 1, slot_bytes);
  return layout;
}

Relay::Cursor::Cursor(int64_t pieces, int64_t hops)
    : pieces_(pieces),
      hops_(hops),
      fronts_(pieces == 0 || hops == 0 ? 0 : pieces + kLead * (hops - 1)) {
  if (!is_done()) enter_front();
}

// At the farthest hop that some piece is at in this front; with few pieces some fronts have none.
void Relay::Cursor::enter_front() {
  for (; !is_done(); ++front_) {
    hop_ = std::min(hops_ - 1, front_ / kLead);
    if (piece() < pieces_) return;
  }
}

void Relay::Cursor::next() {
  --hop_;
  if (hop_ < 0 || piece() >= pieces_) {
    ++front_;
    enter_front();
  }
}

bool Relay::Cursor::has_passed(int64_t piece, int64_t hop) const {
  const int64_t front = piece + kLead * hop;
  return front_ > front || (front_ == front && hop_ < hop);
}

Relay::Relay(const Schedule& schedule, const Layout& layout, combine::Function combine,
             const Links& links)
    : schedule_(schedule),
      layout_(layout),
      combine_(combine),
      links_(links),
      sends_(layout.pieces(), static_cast<int64_t>(schedule.hops.size())),
      receives_(layout.pieces(), static_cast<int64_t>(schedule.hops.size())) {}

bool Relay::advance() {
  bool moved = false;
  // Bounded, so that the caller comes to look at its clock.
  for (int round = 0; round < 64; ++round) {
    const bool sent = send_one();
    const bool received = receive_one();
    if (!sent && !received) break;
    moved = true;
  }
  return moved;
}

bool Relay::send_one() {
  if (sends_.is_done()) return false;
  const Hop& hop = hop_at(sends_);
  const auto range = hop.send ? layout_.range(sends_.piece(), *hop.send) : Layout::Range{};
  if (range.count > 0) {
    // See Note [One order of hops]: what this hop passes on came in an earlier one.
    const bool is_first = sends_.hop() == 0;
    if (!is_first && !receives_.has_passed(sends_.piece(), sends_.hop() - 1)) return false;
    Sender& line = *links_[static_cast<size_t>(hop.ring)].next;
    std::byte* const slot = line.free_slot();
    if (slot == nullptr) return false;
    const int64_t bytes = range.count * layout_.element_bytes;
    std::memcpy(slot, range.data, bytes);
    line.send(bytes);
  }
  sends_.next();
  return true;
}

bool Relay::receive_one() {
  if (receives_.is_done()) return false;
  const Hop& hop = hop_at(receives_);
  const auto range = hop.receive ? layout_.range(receives_.piece(), *hop.receive) : Layout::Range{};
  if (range.count > 0) {
    Receiver& line = *links_[static_cast<size_t>(hop.ring)].previous;
    const std::byte* const message = line.front();
    if (message == nullptr) return false;
    if (hop.combines) {
      combine_(range.data, message, range.count);
    } else {
      std::memcpy(range.data, message, range.count * layout_.element_bytes);
    }
    line.release();
  }
  receives_.next();
  return true;
}

Relay::Obstacle Relay::obstacle() const {
  if (!receives_.is_done()) return {hop_at(receives_).ring, /*is_previous=*/true};
  return {hop_at(sends_).ring, /*is_previous=*/false};
}

}  // namespace espalier
