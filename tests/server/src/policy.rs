//! Types of storage policies: where the bytes of uploads go, and by whose words a client hands them over.

/// The type of the storage policy that new content goes to (→ api part 2 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StoragePolicy {
    /// On the server's own disk.
    #[default]
    Local,
    /// On the disk of a storage node (slave).
    Remote,
    /// Amazon S3, and what speaks as it does.
    S3,
    /// Kingsoft KS3.
    Ks3,
    /// Aliyun OSS, which calls the server back itself.
    Oss,
    /// Tencent COS.
    Cos,
    /// Huawei OBS, which calls the server back itself.
    Obs,
    /// Qiniu, which calls the server back itself.
    Qiniu,
    /// UPYUN, which tells the server later.
    Upyun,
    /// OneDrive.
    OneDrive,
}

impl StoragePolicy {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Local,
        Self::Remote,
        Self::S3,
        Self::Ks3,
        Self::Oss,
        Self::Cos,
        Self::Obs,
        Self::Qiniu,
        Self::Upyun,
        Self::OneDrive,
    ];

    /// As the server writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::S3 => "s3",
            Self::Ks3 => "ks3",
            Self::Oss => "oss",
            Self::Cos => "cos",
            Self::Obs => "obs",
            Self::Qiniu => "qiniu",
            Self::Upyun => "upyun",
            Self::OneDrive => "onedrive",
        }
    }

    /// The policy that the server writes so.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// The server looks at what was stored before it believes that an upload is complete (→ api part 2 §5.10).
    pub(crate) fn is_measured(self) -> bool {
        matches!(self, Self::S3 | Self::Ks3 | Self::Cos | Self::OneDrive)
    }

    /// Size of a chunk that a session is told, from what the policy says (→ api part 2 §5.2).
    pub(crate) fn chunk_size(self, said: u64) -> u64 {
        match self {
            Self::Local | Self::Remote => said,
            Self::Upyun => 0,
            Self::OneDrive if said == 0 => 50 << 20,
            _ if said == 0 => 25 << 20,
            _ => said,
        }
    }
}
