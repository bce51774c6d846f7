#include "data/shards/tar_writer.h"

#include <filesystem>

#include <archive.h>
#include <archive_entry.h>

#include "data/errors.h"

namespace espalier {

struct TarWriter::Output {
  archive* tar = archive_write_new();
  ~Output() { archive_write_free(tar); }
};

TarWriter::TarWriter(std::string path)
    : path_(std::move(path)), temporary_(path_ + ".tmp"), output_(std::make_unique<Output>()) {
  archive_write_set_format_pax_restricted(output_->tar);
  archive_write_set_bytes_per_block(output_->tar, 0);  // offsets below count what was written
  if (archive_write_open_filename(output_->tar, temporary_.c_str()) != ARCHIVE_OK) fail();
}

TarWriter::~TarWriter() = default;

int64_t TarWriter::add(const std::string& name, std::span<const uint8_t> bytes) {
  archive_entry* const entry = archive_entry_new();
  archive_entry_set_pathname(entry, name.c_str());
  archive_entry_set_size(entry, static_cast<la_int64_t>(bytes.size()));
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_entry_set_perm(entry, 0644);
  const int status = archive_write_header(output_->tar, entry);
  archive_entry_free(entry);
  if (status != ARCHIVE_OK) fail();
  const int64_t offset = archive_filter_bytes(output_->tar, -1);
  if (archive_write_data(output_->tar, bytes.data(), bytes.size()) !=
      static_cast<la_ssize_t>(bytes.size())) {
    fail();
  }
  return offset;
}

void TarWriter::finish() {
  if (archive_write_close(output_->tar) != ARCHIVE_OK) fail();
  std::error_code failed;
  std::filesystem::rename(temporary_, path_, failed);
  if (failed) throw DataError(path_ + " cannot be written: " + failed.message());
}

void TarWriter::fail() const {
  const char* const reason = archive_error_string(output_->tar);
  throw DataError(path_ + " cannot be written: " + (reason == nullptr ? "unknown" : reason) +
                  "; free some disk or choose another folder with data.NAME.cache");
}

}  // namespace espalier
