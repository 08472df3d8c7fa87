//! Plots, as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::Result;

/// A plot: a line per side.
#[derive(Debug)]
pub(crate) struct Plot {
    /// The file's name, without its ending.
    pub(crate) name: String,
    pub(crate) title: String,
    axes: (&'static str, &'static str),
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

const COLOURS: [RGBColor; 4] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0xe0, 0x6c, 0x1f),
    RGBColor(0x6b, 0x6b, 0x6b),
    RGBColor(0x2f, 0x8f, 0x4e),
];

impl Plot {
    pub(crate) fn new(name: String, title: String, axes: (&'static str, &'static str)) -> Self {
        Self {
            name,
            title,
            axes,
            lines: Vec::new(),
        }
    }

    /// Adds a point to the line of this name.
    pub(crate) fn point(&mut self, line: &str, x: f64, y: f64) {
        match self.lines.iter_mut().find(|(name, _)| name == line) {
            Some((_, points)) => points.push((x, y)),
            None => self.lines.push((line.to_owned(), vec![(x, y)])),
        }
    }

    /// Adds how many of the values, in percent, lie below each: sorted ones.
    pub(crate) fn distribution(&mut self, line: &str, sorted: &[f64]) {
        for per_mille in (0..995).step_by(5) {
            let below = crate::load::quantile(sorted, per_mille);
            self.point(line, below, per_mille as f64 / 10.0);
        }
    }

    /// Writes it.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let x = points().map(|(x, _)| *x).fold(0.0, f64::max);
        let y = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.05;
        let path = dir.join(format!("{}.svg", self.name));
        let area = SVGBackend::new(&path, (720, 380)).into_drawing_area();
        let failed = |error: &dyn std::error::Error| format!("cannot draw {}: {error}", self.name);
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..x.max(1e-9), 0.0..y.max(1e-9))
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(self.axes.0)
            .y_desc(self.axes.1)
            .draw()
            .map_err(|error| failed(&error))?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            chart
                .draw_series(line)
                .map_err(|error| failed(&error))?
                .label(name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))?;
        Ok(())
    }
}
