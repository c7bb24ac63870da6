use super::super::{Draw, Drawn, MAX_MESSAGE, SamplePicture, SearchEvent, draw};
use super::search;
use lora_rates_proto::v1;
use std::sync::Arc;

fn asked() -> Draw {
    Draw { search_id: "s".into(), step: 7, item: 1, rates: vec![0.5; 40] }
}

#[test]
fn a_picture_to_be_sampled_comes_back_as_it_went() {
    assert_eq!(draw(asked().into(), &search()).unwrap(), asked());
    let wrong = |field: &str, change: fn(&mut v1::Draw)| {
        let mut message = v1::Draw::from(asked());
        change(&mut message);
        assert_eq!(draw(message, &search()).unwrap_err().field(), field);
    };
    wrong("draw.item", |it| it.item = 2);
    wrong("draw.step", |it| it.step = u64::MAX);
    wrong("draw.rates", |it| it.rates.truncate(39));
    wrong("draw.rates[3]", |it| it.rates[3] = f32::NAN);
    wrong("draw.search_id", |it| it.search_id.clear());
}

#[test]
fn what_was_sampled_comes_back_as_it_went() {
    for result in [Ok("0a".repeat(32)), Err("out of memory".to_owned())] {
        let drawn = Drawn { search_id: "s".into(), step: 7, item: 1, result: result.clone() };
        assert_eq!(Drawn::try_from(v1::Drawn::from(drawn.clone())).unwrap(), drawn);
        let event = SearchEvent::SamplePicture(Arc::new(SamplePicture { step: 7, item: 1, seed: 3, result }));
        assert_eq!(SearchEvent::try_from(v1::WatchSearchResponse::from(&event)).unwrap(), event);
    }
}

#[test]
fn what_was_not_sampled_in_order_is_refused_by_field() {
    use v1::drawn::Result as Said;
    let message = |result| v1::Drawn { search_id: "s".into(), step: 7, item: 1, result };
    let field = |message: v1::Drawn| Drawn::try_from(message).unwrap_err().field().to_owned();
    assert_eq!(field(message(None)), "drawn.result");
    assert_eq!(field(message(Some(Said::Sha256("xyz".into())))), "drawn.sha256");
    let long = Drawn::try_from(message(Some(Said::Failure("a".repeat(2 * MAX_MESSAGE))))).unwrap();
    assert_eq!(long.result.unwrap_err().len(), MAX_MESSAGE);

    use v1::sample_picture::Result as Found;
    let picture = |item, result| v1::SamplePicture { step: 7, item, seed: 3, result };
    let field = |message: v1::SamplePicture| SamplePicture::try_from(message).unwrap_err().field().to_owned();
    assert_eq!(field(picture(0, None)), "sample_picture.result");
    assert_eq!(field(picture(256, Some(Found::Failure(String::new())))), "sample_picture.item");
    assert_eq!(field(picture(0, Some(Found::Sha256("0a".into())))), "sample_picture.sha256");
}
