//! Pictures drawn by a program, with captions: what the demonstration searches over.

use image::{ImageFormat, Rgb, RgbImage};
use std::path::Path;

/// A colour in sRGB.
struct Colour {
    name: &'static str,
    rgb: [u8; 3],
}

const RED: Colour = Colour { name: "red", rgb: [214, 48, 49] };
const BLUE: Colour = Colour { name: "blue", rgb: [30, 90, 200] };
const GREEN: Colour = Colour { name: "green", rgb: [32, 150, 80] };
const YELLOW: Colour = Colour { name: "yellow", rgb: [245, 205, 60] };
const WHITE: Colour = Colour { name: "white", rgb: [250, 250, 250] };
const BLACK: Colour = Colour { name: "black", rgb: [20, 20, 24] };

/// What stands in the middle of a picture.
#[derive(Clone, Copy)]
enum Shape {
    /// With slanting stripes.
    Circle,
    /// With checks.
    Square,
}

/// One picture.
struct Drawing {
    shape: Shape,
    size: (u32, u32),
    colours: (Colour, Colour),
    ground: Colour,
}

const fn drawing(shape: Shape, size: (u32, u32), colours: (Colour, Colour), ground: Colour) -> Drawing {
    Drawing { shape, size, colours, ground }
}

const DRAWINGS: [Drawing; 6] = [
    drawing(Shape::Circle, (64, 64), (RED, WHITE), BLUE),
    drawing(Shape::Circle, (96, 40), (YELLOW, BLACK), GREEN),
    drawing(Shape::Circle, (80, 80), (BLUE, YELLOW), WHITE),
    drawing(Shape::Square, (64, 64), (BLACK, WHITE), RED),
    drawing(Shape::Square, (96, 40), (GREEN, WHITE), BLACK),
    drawing(Shape::Square, (72, 64), (RED, YELLOW), BLUE),
];

/// Writes the pictures and their captions into folders below this one: circles are shown twice per epoch.
pub(super) fn write(folder: &Path) -> Result<(), anyhow::Error> {
    for (place, drawing) in DRAWINGS.iter().enumerate() {
        let below = folder.join(drawing.shape.folder());
        std::fs::create_dir_all(&below)?;
        let path = below.join(format!("{place}.png"));
        drawing.picture().save_with_format(&path, ImageFormat::Png)?;
        std::fs::write(path.with_extension("txt"), drawing.caption() + "\n")?;
    }
    Ok(())
}

impl Shape {
    fn folder(self) -> &'static str {
        match self {
            Self::Circle => "2_striped circle",
            Self::Square => "1_checkered square",
        }
    }

    /// Which of its two colours the shape has at a place relative to its centre; `None` outside.
    fn at(self, x: f32, y: f32, radius: f32) -> Option<bool> {
        let band = |along: f32| (along / (radius / 2.5)).floor() as i32 & 1;
        match self {
            Self::Circle => (x.hypot(y) < radius).then(|| band(x + y) == 0),
            Self::Square => (x.abs().max(y.abs()) < radius).then(|| band(x) == band(y)),
        }
    }
}

impl Drawing {
    fn caption(&self) -> String {
        let (first, second) = (self.colours.0.name, self.colours.1.name);
        let what = match self.shape {
            Shape::Circle => "a striped circle",
            Shape::Square => "a checkered square",
        };
        format!("{what}, {first} and {second}, on a {} ground", self.ground.name)
    }

    /// The shape on a ground that darkens downwards.
    fn picture(&self) -> RgbImage {
        let (width, height) = self.size;
        let radius = width.min(height) as f32 * 0.38;
        RgbImage::from_fn(width, height, |column, row| {
            let (x, y) = (column as f32 + 0.5 - width as f32 / 2.0, row as f32 + 0.5 - height as f32 / 2.0);
            match self.shape.at(x, y, radius) {
                Some(true) => Rgb(self.colours.0.rgb),
                Some(false) => Rgb(self.colours.1.rgb),
                None => Rgb(self.ground.rgb.map(|c| (f32::from(c) * (1.0 - 0.4 * row as f32 / height as f32)) as u8)),
            }
        })
    }
}
