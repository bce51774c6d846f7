#include "data/shards/tar_index.h"

#include "data/errors.h"
#include "tests/data/test_files.h"

namespace espalier {
namespace {

std::vector<TarMember> index_of(const std::string& path) { return index_tar(ReadOnlyFile(path)); }

TEST(TarIndex, ListsMembersWithOffsetsOfTheirData) {
  TemporaryFolder folder;
  const std::string bytes =
      tar_member("a.txt", "alpha") + tar_member("b.txt", std::string(600, 'b')) + tar_end();
  const ReadOnlyFile file(folder.write("t.tar", bytes));

  const auto members = index_tar(file);

  ASSERT_EQ(members.size(), 2U);
  EXPECT_EQ(members[0].name, "a.txt");
  EXPECT_EQ(text_of(file.read(members[0].offset, members[0].size)), "alpha");
  EXPECT_EQ(members[1].offset, 512 + 512 + 512);
  EXPECT_EQ(members[1].size, 600);
}

TEST(TarIndex, LeavesOutFoldersAndLinks) {
  TemporaryFolder folder;
  const auto path =
      folder.write("t.tar", tar_member("folder/", "", '5') + tar_member("link", "", '2') +
                                tar_member("folder/a", "x") + tar_end());
  const auto members = index_of(path);
  ASSERT_EQ(members.size(), 1U);
  EXPECT_EQ(members[0].name, "folder/a");
}

TEST(TarIndex, TakesLongNamesFromPaxAndGnuHeaders) {
  TemporaryFolder folder;
  const std::string pax_name(150, 'p');
  const std::string gnu_name(200, 'g');
  const std::string record = "160 path=" + pax_name + "\n";
  ASSERT_EQ(record.size(), 160U);
  const auto path =
      folder.write("t.tar", tar_member("pax", record, 'x') + tar_member("short", "1") +
                                tar_member("././@LongLink", gnu_name + '\0', 'L') +
                                tar_member("short", "22") + tar_member("plain", "333") + tar_end());

  const auto members = index_of(path);

  ASSERT_EQ(members.size(), 3U);
  EXPECT_EQ(members[0].name, pax_name);
  EXPECT_EQ(members[1].name, gnu_name);
  EXPECT_EQ(members[1].size, 2);
  EXPECT_EQ(members[2].name, "plain");
}

TEST(TarIndex, NamesFileMemberAndOffsetOfATruncatedMember) {
  TemporaryFolder folder;
  const std::string whole = tar_member("00001.png", std::string(100, 'x')) +
                            tar_member("00002.png", std::string(2000, 'y'));
  const auto path = folder.write("cut.tar", whole.substr(0, 1024 + 512 + 700));
  expect_contains(message_of<DataError>([&] { index_of(path); }),
                  {path, "truncated", "member 00002.png needs 2000 bytes", "700 left",
                   "at byte 1024", "after member 00001.png"});
}

TEST(TarIndex, NamesTheLastWholeMemberWhenAHeaderIsCut) {
  TemporaryFolder folder;
  const auto path = folder.write("cut.tar", tar_member("00001.png", "x") + std::string(100, 'h'));
  expect_contains(message_of<DataError>([&] { index_of(path); }),
                  {path, "truncated", "ends at byte 1124", "after member 00001.png"});
}

TEST(TarIndex, CountsAnArchiveCutBetweenMembersAsTruncated) {
  TemporaryFolder folder;
  const auto path = folder.write("cut.tar", tar_member("00001.png", "x"));
  expect_contains(message_of<DataError>([&] { index_of(path); }),
                  {"truncated", "closing zero block", "after member 00001.png"});
}

TEST(TarIndex, RefusesEveryTruncationOfACommittedShard) {
  TemporaryFolder folder;
  const std::string whole = read_file(source_path("data/emoji/emoji-32-test.tar"));
  for (const size_t size : {size_t{0}, size_t{1}, size_t{511}, size_t{512}, size_t{5000},
                            whole.size() / 2, whole.size() / 2 + 137}) {
    const auto path = folder.write("cut.tar", whole.substr(0, size));
    EXPECT_THROW(index_of(path), DataError) << size;
  }
}

TEST(TarIndex, RefusesADamagedHeader) {
  TemporaryFolder folder;
  std::string bytes = tar_member("00001.png", "x") + tar_member("00002.png", "y") + tar_end();
  bytes[1024 + 3] ^= 1;
  const auto path = folder.write("bad.tar", bytes);
  expect_contains(message_of<DataError>([&] { index_of(path); }),
                  {path, "checksum", "at byte 1024", "after member 00001.png"});
}

TEST(TarIndex, RefusesAFileThatIsNoTar) {
  TemporaryFolder folder;
  const auto path = folder.write("text.tar", std::string(5000, 'z'));
  expect_contains(message_of<DataError>([&] { index_of(path); }), {path, "no tar archive"});
}

TEST(TarIndex, SaysToUnpackGzip) {
  TemporaryFolder folder;
  const auto path = folder.write("t.tar.gz", "\x1f\x8b" + std::string(1000, 'z'));
  expect_contains(message_of<DataError>([&] { index_of(path); }), {path, "gunzip"});
}

TEST(TarIndex, RefusesASizeBeyondTheArchive) {
  TemporaryFolder folder;
  const std::string record = "28 size=9223372036854775807\n";
  ASSERT_EQ(record.size(), 28U);
  const auto path = folder.write(
      "t.tar", tar_member("pax", record, 'x') + tar_member("huge.png", "x") + tar_end());
  expect_contains(message_of<DataError>([&] { index_of(path); }), {"huge.png", "truncated"});
}

TEST(TarIndex, RefusesMalformedPaxRecords) {
  TemporaryFolder folder;
  for (const std::string record :
       {"999 path=x\n", "path=x\n", "12 path=x\n", "9 sizes=1", "11 size=-5\n", "x"}) {
    const auto path =
        folder.write("t.tar", tar_member("pax", record, 'x') + tar_member("a", "x") + tar_end());
    EXPECT_THROW(index_of(path), DataError) << record;
  }
}

TEST(TarIndex, ListsTheMembersOfAPart) {
  TemporaryFolder folder;
  const ReadOnlyFile file(folder.write(
      "t.tar", tar_member("a", "1") + tar_member("b", "22") + tar_member("c", "333") + tar_end()));

  const auto members = index_tar_part(file, 1024, 3072, "the part");

  ASSERT_EQ(members.size(), 2U);
  EXPECT_EQ(members[0].name, "b");
  EXPECT_EQ(members[1].offset, 2048 + 512);
}

TEST(TarIndex, NamesThePartThatEndsInsideAMemberOrHasAHole) {
  TemporaryFolder folder;
  const ReadOnlyFile file(folder.write(
      "t.tar", tar_member("a", std::string(600, 'x')) + tar_member("b", "22") + tar_end()));
  const auto message = [&](int64_t begin, int64_t end) {
    return message_of<DataError>([&] { index_tar_part(file, begin, end, "the part"); });
  };
  expect_contains(message(0, 1024), {"the part is truncated", "member a needs 600", "512 left"});
  expect_contains(message(0, 1600), {"the part is truncated", "ends at byte 1600"});
  expect_contains(message(0, 3584), {"the part is damaged: a zero block", "after member b"});
  expect_contains(message(512, 2560), {"the part is no tar archive", "at byte 512"});
}

TEST(ReadOnlyFile, SaysWhichFileCannotBeOpened) {
  expect_contains(message_of<DataError>([] { ReadOnlyFile("/nonexistent/a.tar"); }),
                  {"/nonexistent/a.tar", "No such file"});
  EXPECT_THROW(ReadOnlyFile("/tmp"), DataError);
}

TEST(ReadOnlyFile, SaysWhenAFileBecameShorter) {
  TemporaryFolder folder;
  const auto path = folder.write("t", "0123456789");
  const ReadOnlyFile file(path);
  std::filesystem::resize_file(path, 4);
  expect_contains(message_of<DataError>([&] { file.read(2, 5); }), {path, "shorter", "no byte 4"});
}

}  // namespace
}  // namespace espalier
