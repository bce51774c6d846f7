#include "data/shards/tar_index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "data/errors.h"

namespace espalier {
namespace {

constexpr int64_t kBlock = 512;
constexpr int64_t kMaxExtendedHeader = int64_t{1} << 20;

// Fields of a ustar header (POSIX.1-2017, pax, "ustar Interchange Format").
struct Field {
  size_t offset;
  size_t size;
};
constexpr Field kName{0, 100};
constexpr Field kSize{124, 12};
constexpr Field kChecksum{148, 8};
constexpr size_t kType = 156;
constexpr Field kMagic{257, 5};
constexpr Field kPrefix{345, 155};

using Header = std::array<uint8_t, kBlock>;

std::string text_of(const Header& header, Field field) {
  const auto* begin = reinterpret_cast<const char*>(header.data()) + field.offset;
  return {begin, strnlen(begin, field.size)};
}

// Octal text, or base-256 where GNU tar needs more than 8 GiB. -1 when it is neither.
int64_t number_of(const Header& header, Field field) {
  const uint8_t* bytes = header.data() + field.offset;
  int64_t value = 0;
  if ((bytes[0] & 0x80) != 0) {
    for (size_t i = field.size - 8; i < field.size; ++i) value = value << 8 | bytes[i];
    return value < 0 ? -1 : value;
  }
  for (const char c : text_of(header, field)) {
    if (c == ' ') continue;
    if (c < '0' || c > '7') return -1;
    value = value * 8 + (c - '0');
  }
  return value;
}

bool checksum_fits(const Header& header) {
  int64_t sum = 0;
  for (size_t i = 0; i < header.size(); ++i) {
    const bool in_checksum = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
    sum += in_checksum ? ' ' : header[i];
  }
  return sum == number_of(header, kChecksum);
}

// What pax and GNU extended headers say about the member that follows them.
struct Extension {
  std::string name;
  int64_t size = -1;
};

// Records of the form "LENGTH KEY=VALUE\n", where LENGTH counts the whole record.
bool read_pax(std::string_view text, Extension& extension) {
  while (!text.empty()) {
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || space == 0 || space > 8) return false;
    size_t length = 0;
    for (const char digit : text.substr(0, space)) {
      if (digit < '0' || digit > '9') return false;
      length = length * 10 + static_cast<size_t>(digit - '0');
    }
    if (length > text.size() || length < space + 3 || text[length - 1] != '\n') return false;
    const std::string_view record = text.substr(space + 1, length - space - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string value(record.substr(equals + 1));
    if (record.substr(0, equals) == "path") extension.name = value;
    if (record.substr(0, equals) == "size") {
      char* end = nullptr;
      extension.size = std::strtoll(value.c_str(), &end, 10);
      if (value.empty() || *end != '\0' || extension.size < 0) return false;
    }
    text.remove_prefix(length);
  }
  return true;
}

class Indexer {
 public:
  explicit Indexer(const ReadOnlyFile& file)
      : file_(file),
        name_(file.path()),
        end_(file.size()),
        remedy_(". Fetch or build the shard again.") {}
  Indexer(const ReadOnlyFile& file, int64_t begin, int64_t end, std::string name)
      : file_(file), name_(std::move(name)), offset_(begin), end_(std::min(end, file.size())) {}

  std::vector<TarMember> run() {
    while (read_header()) take_member();
    return std::move(members_);
  }

  std::vector<TarMember> run_to_end() {
    while (offset_ < end_) {
      if (!read_header()) fail("is damaged: a zero block where a member should begin");
      take_member();
    }
    if (extension_.size >= 0 || !extension_.name.empty())
      fail("is truncated: no member follows an extended header");
    return std::move(members_);
  }

 private:
  // False at the closing zero block.
  bool read_header() {
    if (offset_ + kBlock > end_) {
      fail("is truncated: it ends at byte " + std::to_string(end_) +
           " without the closing zero block");
    }
    file_.read(offset_, header_.data(), kBlock);
    if (std::all_of(header_.begin(), header_.end(), [](uint8_t byte) { return byte == 0; }))
      return false;
    if (offset_ == 0 && header_[0] == 0x1f && header_[1] == 0x8b)
      fail("is compressed with gzip; samples are read at random: unpack it with gunzip");
    if (!checksum_fits(header_)) fail("is no tar archive or is damaged: bad header checksum");
    return true;
  }

  void take_member() {
    const char type = static_cast<char>(header_[kType]);
    int64_t size = number_of(header_, kSize);
    if (extension_.size >= 0 && type != 'x' && type != 'L') size = extension_.size;
    if (size < 0) fail("is damaged: a member's size is no number");
    const int64_t data = offset_ + kBlock;
    const std::string name = name_of_member();
    if (size > end_ - data) {
      fail("is truncated: member " + name + " needs " + std::to_string(size) +
           " bytes, the archive has " + std::to_string(end_ - data) + " left");
    }
    if (type == 'x' || type == 'L') {
      take_extension(type, data, size);
    } else {
      // Folders, links and global pax headers carry nothing that a sample is made of.
      if (type == '0' || type == '\0' || type == '7') members_.push_back({name, data, size});
      last_ = name;
      extension_ = {};
    }
    offset_ = data + (size + kBlock - 1) / kBlock * kBlock;
  }

  void take_extension(char type, int64_t data, int64_t size) {
    if (size > kMaxExtendedHeader) fail("is damaged: an extended header above 1 MiB");
    const std::vector<uint8_t> bytes = file_.read(data, size);
    const std::string text(bytes.begin(), bytes.end());
    if (type == 'L') {
      extension_.name = text.c_str();  // ends at the first zero byte
    } else if (!read_pax(text, extension_)) {
      fail("is damaged: malformed pax header");
    }
  }

  std::string name_of_member() const {
    if (!extension_.name.empty()) return extension_.name;
    const std::string name = text_of(header_, kName);
    const bool is_ustar = text_of(header_, kMagic) == "ustar" && header_[kMagic.offset + 5] == 0;
    const std::string prefix = is_ustar ? text_of(header_, kPrefix) : "";
    return prefix.empty() ? name : prefix + "/" + name;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(name_ + " " + what + " (at byte " + std::to_string(offset_) + ", " +
                    (last_.empty() ? "before the first member" : "after member " + last_) + ")" +
                    remedy_);
  }

  const ReadOnlyFile& file_;
  std::string name_;
  int64_t offset_ = 0;
  int64_t end_ = 0;
  std::string remedy_;
  Header header_{};
  Extension extension_;
  std::string last_;
  std::vector<TarMember> members_;
};

}  // namespace

ReadOnlyFile::ReadOnlyFile(const std::string& path) : path_(path) {
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw DataError("cannot open " + path + ": " + std::strerror(errno));
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor_);
    throw DataError(path + " is not a regular file");
  }
  size_ = status.st_size;
}

ReadOnlyFile::~ReadOnlyFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

ReadOnlyFile::ReadOnlyFile(ReadOnlyFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

void ReadOnlyFile::read(int64_t offset, void* into, int64_t bytes) const {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = pread(descriptor_, static_cast<char*>(into) + done,
                              static_cast<size_t>(bytes - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      throw DataError("cannot read " + path_ + " at byte " + std::to_string(offset + done) + ": " +
                      std::strerror(errno));
    if (got == 0)
      throw DataError(path_ + " became shorter while it was read: no byte " +
                      std::to_string(offset + done));
    done += got;
  }
}

std::vector<uint8_t> ReadOnlyFile::read(int64_t offset, int64_t bytes) const {
  std::vector<uint8_t> buffer(static_cast<size_t>(bytes));
  read(offset, buffer.data(), bytes);
  return buffer;
}

std::vector<TarMember> index_tar(const ReadOnlyFile& file) { return Indexer(file).run(); }

std::vector<TarMember> index_tar_part(const ReadOnlyFile& file, int64_t begin, int64_t end,
                                      const std::string& part) {
  return Indexer(file, begin, end, part).run_to_end();
}

}  // namespace espalier
