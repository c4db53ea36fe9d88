//! Where the official files of each data set are, how long they are and what their SHA-256 is.

use super::ALL;

/// A data set's official home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The data set's id, and the name of its folder.
    pub id: String,
    /// Address of the folder that holds the files.
    pub base: String,
    pub license: String,
    pub files: Vec<RemoteFile>,
}

/// One file to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its name below the base address.
    pub official: Official,
    /// What to do with it.
    pub kind: Kind,
}

/// A file as its authors published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Official {
    /// A plain file name.
    pub name: String,
    pub bytes: u64,
    /// In hexadecimal, lower case.
    pub sha256: String,
}

/// What a downloaded file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Kept as it is; where it is gzip, length and SHA-256 of its content, for those who unpacked it.
    Kept { content: Option<(u64, String)> },
    /// A `.tar.gz`, of which these files are kept, without their folder.
    Archive { members: Vec<Official> },
}

impl Remote {
    /// The files that stand in the data set's folder after fetching.
    pub fn installed(&self) -> Vec<&Official> {
        self.files
            .iter()
            .flat_map(|file| match &file.kind {
                Kind::Kept { .. } => std::slice::from_ref(&file.official),
                Kind::Archive { members } => members,
            })
            .collect()
    }
}

impl Official {
    fn new(&(name, bytes, sha256): &(&str, u64, &str)) -> Self {
        Self {
            name: name.to_owned(),
            bytes,
            sha256: sha256.to_owned(),
        }
    }
}

/// The official home of a data set; `None` for one that is built in or cannot be fetched.
pub fn remote(id: &str) -> Option<Remote> {
    Some(match id {
        "mnist" => idx(id, MNIST_HOME, "CC BY-SA 3.0, as commonly stated", &MNIST),
        "fashion-mnist" => idx(id, FASHION_MNIST_HOME, "MIT", &FASHION_MNIST),
        "cifar10" => archive(id, &CIFAR10, &CIFAR10_MEMBERS),
        "cifar100" => archive(id, &CIFAR100, &CIFAR100_MEMBERS),
        _ => return None,
    })
}

/// Whether a data set of that id exists.
pub(super) fn is_known(id: &str) -> bool {
    ALL.iter().any(|entry| entry.info.id == id)
}

/// One sentence for an id that no data set has.
pub(super) fn unknown(id: &str) -> String {
    let ids: Vec<&str> = ALL.iter().map(|entry| entry.info.id.as_ref()).collect();
    format!("{id} is no data set; there are {}", ids.join(", "))
}

/// Name, bytes and SHA-256 of a gzip file, then bytes and SHA-256 of its content.
type Gzip = (&'static str, u64, &'static str, u64, &'static str);

fn idx(id: &str, base: &str, license: &str, files: &[Gzip]) -> Remote {
    Remote {
        id: id.to_owned(),
        base: base.to_owned(),
        license: license.to_owned(),
        files: files
            .iter()
            .map(
                |&(name, bytes, sha256, content_bytes, content_sha256)| RemoteFile {
                    official: Official::new(&(name, bytes, sha256)),
                    kind: Kind::Kept {
                        content: Some((content_bytes, content_sha256.to_owned())),
                    },
                },
            )
            .collect(),
    }
}

fn archive(id: &str, file: &(&str, u64, &str), members: &[(&str, u64, &str)]) -> Remote {
    Remote {
        id: id.to_owned(),
        base: CIFAR_HOME.to_owned(),
        license: "none stated".to_owned(),
        files: vec![RemoteFile {
            official: Official::new(file),
            kind: Kind::Archive {
                members: members.iter().map(Official::new).collect(),
            },
        }],
    }
}

/// The authors' page (yann.lecun.com) no longer serves the files; this copy of the official bytes is the one that
/// torchvision loads from.
const MNIST_HOME: &str = "https://ossci-datasets.s3.amazonaws.com/mnist/";
/// The authors' own repository.
const FASHION_MNIST_HOME: &str =
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/";
/// The author's own page.
const CIFAR_HOME: &str = "https://www.cs.toronto.edu/~kriz/";

// The sums of the IDX files and of their content were computed from the official files with sha256sum 9.1.
const MNIST: [Gzip; 4] = [
    (
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
];

const FASHION_MNIST: [Gzip; 4] = [
    (
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        47_040_016,
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        60_008,
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        7_840_016,
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        10_008,
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
];

// The sums of the CIFAR archives and of their members are those that the loaders of MLDatasets.jl (archives) and of
// torchvision-ruby (archives and members) pin; of the members, `test_batch.bin` was compared with the official bytes.
const CIFAR10: (&str, u64, &str) = (
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
);

/// 10,000 records of 3,073 bytes each.
const CIFAR10_MEMBERS: [(&str, u64, &str); 6] = [
    (
        "data_batch_1.bin",
        30_730_000,
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    ),
    (
        "data_batch_2.bin",
        30_730_000,
        "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    ),
    (
        "data_batch_3.bin",
        30_730_000,
        "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    ),
    (
        "data_batch_4.bin",
        30_730_000,
        "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    ),
    (
        "data_batch_5.bin",
        30_730_000,
        "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    ),
    (
        "test_batch.bin",
        30_730_000,
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    ),
];

const CIFAR100: (&str, u64, &str) = (
    "cifar-100-binary.tar.gz",
    168_513_733,
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
);

/// 50,000 and 10,000 records of 3,074 bytes.
const CIFAR100_MEMBERS: [(&str, u64, &str); 2] = [
    (
        "train.bin",
        153_700_000,
        "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
    ),
    (
        "test.bin",
        30_740_000,
        "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_whole_and_names_are_plain() {
        for id in ["mnist", "fashion-mnist", "cifar10", "cifar100"] {
            let remote = remote(id).unwrap();
            assert!(remote.base.starts_with("https://") && remote.base.ends_with('/'));
            let files = remote.files.iter().map(|file| &file.official);
            for official in files.chain(remote.installed()) {
                assert_eq!(official.sha256.len(), 64, "{}", official.name);
                assert!(
                    official
                        .sha256
                        .chars()
                        .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
                );
                assert!(!official.name.contains(['/', '\\']));
                assert!(official.bytes > 0);
            }
        }
        assert_eq!(remote("glyphs"), None);
        assert_eq!(remote("usps"), None);
    }
}
