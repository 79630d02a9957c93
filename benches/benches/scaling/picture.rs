//! The curves as an SVG: a panel each, what one costs by how many there are.

use std::error::Error;
use std::path::Path;

use benches::{Curve, Growth, Spread};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Draws them into that file.
pub(crate) fn draw(file: &Path, curves: &[Curve]) -> Result<(), Box<dyn Error>> {
    let rows = curves.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, curve) in root.split_evenly((rows, COLUMNS)).iter().zip(curves) {
        panel(area, curve)?;
    }
    root.present()?;
    Ok(())
}

fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, curve: &Curve) -> Result<(), Box<dyn Error>> {
    let each = |figure: f64, number: f64| match curve.growth {
        Growth::Flat => figure,
        Growth::Linear => figure / number,
    };
    let points: Vec<_> = curve
        .points
        .iter()
        .map(|point| {
            let (number, spread) = (point.number as f64, Spread::of(&point.figures));
            let [min, median, max] =
                [spread.min, spread.median, spread.max].map(|figure| each(figure, number));
            (number, min, median, max)
        })
        .collect();
    let numbers = points.iter().map(|point| point.0);
    let (first, last) = (numbers.clone().fold(f64::MAX, f64::min), numbers.fold(1.0, f64::max));
    let top = points.iter().map(|point| point.3).fold(f64::MIN_POSITIVE, f64::max) * HEADROOM;
    let (title, unit) = match curve.growth {
        Growth::Flat => (curve.name.to_owned(), curve.unit.to_owned()),
        Growth::Linear => (format!("{}, each", curve.name), format!("{} each", curve.unit)),
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title.replace('`', ""), ("sans-serif", 15))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d((first..last).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(curve.of)
        .y_desc(unit)
        .y_labels(6)
        .x_label_formatter(&|number| format!("{number:.0}"))
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().map(|point| (point.0, point.2)), &BLUE))?;
    chart.draw_series(points.iter().map(|(number, min, median, max)| {
        ErrorBar::new_vertical(*number, *min, *median, *max, BLUE.filled(), 6)
    }))?;
    Ok(())
}

const COLUMNS: usize = 2;
const PANEL: (u32, u32) = (480, 300);
/// So that the greatest figure does not touch the frame.
const HEADROOM: f64 = 1.15;
