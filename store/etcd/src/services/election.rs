//! Elections: whoever has the oldest key below the election's name leads, and its value is
//! what the leader proclaims.

use bytes::Bytes;
use holm_kv::KeyRange;
use tokio::sync::mpsc;

use super::Services;
use super::turn::{Place, Seat, as_unknown, below, created_at, end_of, op, prefix_of};
use crate::context::Context;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::mvccpb;
use crate::proto::mvccpb::event::EventType;
use crate::proto::v3electionpb as election;
use crate::proto::v3electionpb::LeaderKey;
use crate::status::{Code, Status};

impl Services {
    /// Waits to lead, as long as the caller does. With a lease that waits or leads already, it
    /// proclaims the new value instead.
    ///
    /// # Errors
    ///
    /// If there is no such lease. All leave as Unknown.
    pub async fn campaign(
        &self,
        cx: &Context,
        request: election::CampaignRequest,
    ) -> Result<election::CampaignResponse, Status> {
        self.check_exclusive()?;
        self.run_for(cx, request).await.map_err(as_unknown)
    }

    async fn run_for(
        &self,
        cx: &Context,
        request: election::CampaignRequest,
    ) -> Result<election::CampaignResponse, Status> {
        let lease = self.lease_or_new(cx, request.lease).await?;
        let prefix = prefix_of(&request.name);
        let value = request.value;
        let taken = self.take_place(cx, &prefix, lease, value.clone()).await?;
        let place = taken.waiting.place.clone();
        if taken.earlier.is_some_and(|it| it.value != value) {
            self.set(cx, &place, value).await?;
        }
        let header = self.wait_for_turn(cx, &prefix, taken.waiting).await?;
        Ok(election::CampaignResponse {
            header: Some(header),
            leader: Some(LeaderKey {
                name: request.name,
                key: place.key,
                rev: place.create,
                lease: place.lease,
            }),
        })
    }

    /// Changes what the leader proclaims.
    ///
    /// # Errors
    ///
    /// Without a leader's key, or if that one leads no longer. All leave as Unknown.
    pub async fn proclaim(
        &self,
        cx: &Context,
        request: election::ProclaimRequest,
    ) -> Result<election::ProclaimResponse, Status> {
        let place = place_of(request.leader)?;
        let header = self.set(cx, &place, request.value).await;
        Ok(election::ProclaimResponse {
            header: Some(header.map_err(as_unknown)?),
        })
    }

    async fn set(
        &self,
        cx: &Context,
        place: &Place,
        value: Bytes,
    ) -> Result<pb::ResponseHeader, Status> {
        let put = pb::PutRequest {
            key: place.key.clone(),
            value,
            lease: place.lease,
            ..pb::PutRequest::default()
        };
        let request = pb::TxnRequest {
            compare: vec![created_at(place.key.clone(), place.create)],
            success: vec![op(Request::RequestPut(put))],
            failure: Vec::new(),
        };
        let answer = self.txn(cx, request).await?;
        if answer.succeeded {
            Ok(answer.header.unwrap_or_default())
        } else {
            Err(Status::new(Code::Unknown, "election: not leader"))
        }
    }

    /// Who leads, and what it proclaims.
    ///
    /// # Errors
    ///
    /// If nobody leads. All leave as Unknown.
    pub async fn leader(
        &self,
        cx: &Context,
        request: election::LeaderRequest,
    ) -> Result<election::LeaderResponse, Status> {
        self.check_exclusive()?;
        let prefix = prefix_of(&request.name);
        let (header, leader) = self.oldest(cx, &prefix).await.map_err(as_unknown)?;
        if leader.is_none() {
            return Err(Status::new(Code::Unknown, "election: no leader"));
        }
        Ok(election::LeaderResponse {
            header: Some(header),
            kv: leader,
        })
    }

    async fn oldest(
        &self,
        cx: &Context,
        prefix: &[u8],
    ) -> Result<(pb::ResponseHeader, Option<mvccpb::KeyValue>), Status> {
        let request = pb::RangeRequest {
            limit: 1,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..below(prefix)
        };
        let answer = self.range(cx, request).await?;
        let header = answer.header.unwrap_or_default();
        Ok((header, answer.kvs.into_iter().next()))
    }

    /// Tells each proclamation of each leader, in order, until the caller leaves.
    ///
    /// # Errors
    ///
    /// If the election's keys are not the caller's to read. All leave as Unknown.
    pub async fn observe(
        &self,
        cx: &Context,
        request: election::LeaderRequest,
        answers: mpsc::Sender<election::LeaderResponse>,
    ) -> Result<(), Status> {
        self.check_exclusive()?;
        let prefix = prefix_of(&request.name);
        tokio::select! {
            () = answers.closed() => Ok(()),
            end = self.tell_leaders(cx, &prefix, &answers) => end.map_err(as_unknown),
        }
    }

    async fn tell_leaders(
        &self,
        cx: &Context,
        prefix: &Bytes,
        answers: &mpsc::Sender<election::LeaderResponse>,
    ) -> Result<(), Status> {
        loop {
            let (header, leader) = self.oldest(cx, prefix).await?;
            let next = header.revision + 1;
            match leader {
                Some(leader) => {
                    let key = leader.key.clone();
                    if !tell(answers, header, leader).await {
                        return Ok(());
                    }
                    self.tell_until_deleted(key, next, answers).await;
                }
                None => self.wait_for_any(prefix, next).await,
            }
        }
    }

    /// Tells what a leader proclaims from a revision on, until it leads no longer.
    async fn tell_until_deleted(
        &self,
        key: Bytes,
        from: i64,
        answers: &mpsc::Sender<election::LeaderResponse>,
    ) {
        let seat = Seat::take(self, KeyRange::One(key), from);
        seat.begin(self);
        while let Some(events) = seat.events(self).await {
            for event in events {
                let is_put = event.r#type() == EventType::Put;
                let (true, Some(leader)) = (is_put, event.kv) else {
                    return;
                };
                let term = self.term_of(&self.handle().view());
                let header = self.header(leader.mod_revision, term);
                if !tell(answers, header, leader).await {
                    return;
                }
            }
        }
    }

    /// Waits until somebody stands for the election.
    async fn wait_for_any(&self, prefix: &Bytes, from: i64) {
        let keys = KeyRange::Between(prefix.clone(), end_of(prefix));
        let mut seat = Seat::take(self, keys, from);
        seat.watch.no_delete = true;
        seat.begin(self);
        seat.events(self).await;
    }

    /// Stops leading, or waiting to.
    ///
    /// # Errors
    ///
    /// Without a leader's key. All leave as Unknown.
    pub async fn resign(
        &self,
        cx: &Context,
        request: election::ResignRequest,
    ) -> Result<election::ResignResponse, Status> {
        let place = place_of(request.leader)?;
        let header = self.give_up(cx, &place).await.map_err(as_unknown)?;
        Ok(election::ResignResponse {
            header: Some(header),
        })
    }
}

async fn tell(
    answers: &mpsc::Sender<election::LeaderResponse>,
    header: pb::ResponseHeader,
    leader: mvccpb::KeyValue,
) -> bool {
    let answer = election::LeaderResponse {
        header: Some(header),
        kv: Some(leader),
    };
    answers.send(answer).await.is_ok()
}

fn place_of(leader: Option<LeaderKey>) -> Result<Place, Status> {
    let leader =
        leader.ok_or_else(|| Status::new(Code::Unknown, "\"leader\" field must be provided"))?;
    Ok(Place {
        key: leader.key,
        create: leader.rev,
        lease: leader.lease,
    })
}
