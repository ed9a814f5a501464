"""Extraction, the rules of equality, and limits."""

import pandas as pd
import pytest

from ded.grading import choice, grade
from ded.grading.decision import Settings
from ded.grading.math import grade_answers
from ded.options import Grading
from ded.problems import Problem
from ded.problems.extraction import extract

# Pairs of (reference, answer), labelled by hand.
EQUAL = [
    (r"\frac{1}{2}", "0.5"),
    ("0.5", r"\frac12"),
    (r"\frac{1}{2}", r"\dfrac{1}{2}"),
    (r"\frac{1}{2}", "1/2"),
    (r"\frac{3}{2}", r"1\frac{1}{2}"),
    (r"\frac{7}{3}", "2 1/3"),
    ("12", r"\$12"),
    (r"\$12", "12"),
    (r"\$36", "36 dollars"),
    ("36", r"\$36.00"),
    ("1,234", "1234"),
    ("1234", "1,234"),
    (r"10,\!080", "10080"),
    (r"10,\!080", "10,080"),
    ("5", r"5 \text{ cm}"),
    (r"5 \text{ cm}", "5"),
    (r"5 \text{ cm}", "5 cm"),
    (r"5 \text{ cm}", r"5\,\text{centimeters}"),
    ("12", "12 apples"),
    (r"12\text{ cm}^2", "12 square centimeters"),
    (r"90^\circ", "90"),
    ("90", r"90^\circ"),
    (r"90^\circ", "90 degrees"),
    (r"\frac{\pi}{2}", r"90^\circ"),
    (r"90^\circ", r"\frac{\pi}{2}"),
    (r"75^\circ", "75°"),
    (r"50\%", "50 percent"),
    (r"50\%", "50%"),
    ("(1,2)", r"\left(1, 2\right)"),
    ("(1,2)", "( 1 , 2 )"),
    (r"\{1,2\}", "1 and 2"),
    (r"\{1,2\}", "2, 1"),
    ("1,2", r"\{2,1\}"),
    ("-2,1", r"1 \text{ and } -2"),
    ("[0,3)", r"0 \le x < 3"),
    (r"(-\infty,3]", r"x \leq 3"),
    (r"(-\infty, 3]", "x <= 3"),
    (r"(2,\infty)", "x>2"),
    (r"(2,\infty)", "2 < x"),
    (r"(0,9) \cup (9,36)", r"(9,36)\cup(0,9)"),
    (r"(0,9) \cup (9,36)", r"x \in (0,9) \cup (9,36)"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{3}+\sqrt{2}"),
    (r"2\sqrt{5}", r"\sqrt{20}"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    (r"2\sqrt{5}", r"2 \cdot \sqrt{5}"),
    (r"2\sqrt{5}", "2*sqrt(5)"),
    (r"6\sqrt{2}", "6√2"),
    (r"11 \sqrt{5} + 11", r"11(1+\sqrt5)"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
    (r"3 \pm 2 \sqrt{2}", r"3-2\sqrt2 \text{ or } 3+2\sqrt2"),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2,1+\sqrt{5},1-\sqrt{5}\}"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{bmatrix} 0.2 \\ -3.6 \end{bmatrix}"),
    (r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}", r"\begin{pmatrix}-1&0\\0&-1\end{pmatrix}"),
    (
        r"\begin{pmatrix} 16/49 \\ 48/49 \end{pmatrix}",
        r"\begin{pmatrix} \frac{16}{49} \\ \frac{48}{49} \end{pmatrix}",
    ),
    ("y = 2x + 3", "y = 3 + 2x"),
    ("y = 2x + 3", "2x+3"),
    ("5", "x = 5"),
    ("x=5", "5"),
    ("33", "m+n = 33"),
    ("33", "m+n=20+13=33"),
    ("y = -2x", "-2x"),
    ("(a+5)(b+2)", "(b+2)(a+5)"),
    ("x^3+3x-6", "x^3 + 3x - 6"),
    (r"\frac{11+9a}{20}", r"\frac{9a+11}{20}"),
    ("p - q", "-q+p"),
    ("15x - 80", "5(3x-16)"),
    (r"\cot x", r"\cot(x)"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    ("1+274i", "274i+1"),
    ("6+9i", "6 + 9 i"),
    ("1 - 12i", "1-12i"),
    (r"18+2\pi", r"2\pi+18"),
    (r"8 \pi", "8π"),
    (r"8\pi", "8 pi"),
    ("4343_6", "4343_{6}"),
    ("1011_2", r"1011_{\text{two}}"),
    ("1011", "1011_{10}"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\text{even}", r"\text{Even}"),
    (r"\text{(B)}", "B"),
    (r"\text{(B)}", "(B)"),
    (r"\text{ellipse}", "an ellipse"),
    (r"\text{June 20}", "June 20"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^\circ"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
    (".0000672", r"6.72 \times 10^{-5}"),
    ("4.5", r"\frac{9}{2}"),
    ("4.5", "4.50"),
    ("28800", r"2.88 \times 10^4"),
    ("1251", "1251."),
    ("204", "$204$"),
    ("204", r"\boxed{204}"),
    ("204", "**204**"),
    ("073", "73"),
    ("25", "025"),
    ("2^{10}", "1024"),
    ("1024", "2^{10}"),
    (r"\frac{1}{2004!}", r"\frac{1}{2004!}"),
    ("2k+2", "2(k+1)"),
    ("3R^2", "3 R^2"),
    (r"\frac{448}{15625}", "448/15625"),
    (r"-\frac{3}{8}", r"\frac{-3}{8}"),
    (r"-\frac{3}{8}", "-0.375"),
    (r"5.4 \text{ cents}", "5.4"),
    ("18.90", r"\$18.9"),
    ("6 - 5i", "6-5i"),
    ("1,-2", "-2,1"),
    ("12:30", "12:30"),
    (r"\emptyset", r"\emptyset"),
    (r"\infty", r"\infty"),
    (r"\frac{20000}{\pi}", r"20000/\pi"),
    ("(6,31,-1)", "(6, 31, -1)"),
    ("3, 5, 7", "3,5,7"),
    ("3,5,7", "x = 3, 5, 7"),
    ("-2,1", "x=-2, x=1"),
    ("(2,4)", "x=2,y=4"),
    (r"\ln 2", r"\ln(2)"),
    (r"\log_2 3", r"\frac{\ln 3}{\ln 2}"),
    ("2x+3y=6", "3y+2x=6"),
    ("x^2+y^2=1", "y^2 = 1 - x^2"),
    ("e^{2}", "e^2"),
    (r"\tan 30^\circ", r"\tan 30^\circ"),
    ("16", r"16\text{ students}"),
    ("100", r"100\text{ km/h}"),
    (r"\frac{1}{3}", r"\frac{2}{6}"),
    (r"3\sqrt{13}", r"3 \sqrt {13}"),
    ("|x|", "|x|"),
    ("5!", "120"),
    (r"\binom{5}{2}", "10"),
    (r"x \le 3", r"x \leq 3"),
    (r"x \le 3", r"3 \ge x"),
    (r"\text{no solution}", "No solution"),
    (r"\frac{5\pi}{6}", r"150^\circ"),
    ("7", r"7\text{ hours}"),
    (r"1\frac{4}{5}", r"\frac95"),
    (r"1\frac{4}{5}", "1.8"),
    ("52_8", "52_{8}"),
    ("26000", "26,000"),
    (r"\$32,\!348", r"\$32,348"),
    (r"\$32,\!348", "32348"),
    (r"11,\! 111,\! 111,\! 100", "11111111100"),
    (r"12\text{ cm}^2", "12 square units"),
    (r"16\text{ square units}", "16"),
    (r"5\text{ red apples}", "5 apples"),
    (r"60\text{ mph}", "60"),
    (r"\frac{1}{2}\pi", r"\frac{\pi}{2}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\ 2\end{pmatrix}"),
    (r"10 \text{ miles per hour}", "10 mph"),
    (r"\text{(A)}", "A"),
    (r"\text{(A)}", "(A)"),
    ("A", r"\text{(A)}"),
    (r"\{1,2\}", "x=1 or x=2"),
    (r"\{1,2\}", r"x = 1 \text{ or } x = 2"),
    ("1234", "1 234"),
    (r"\frac{1}{2}", r"\frac 1 2"),
    (r"\frac{1}{2}", "2^-1"),
    (r"\frac{1}{3}", r"0.\overline{3}"),
    (r"\frac{7}{30}", r"0.2\overline{3}"),
    (r"\frac{1}{7}", r"0.\overline{142857}"),
    (r"(-\infty,\infty)", r"\mathbb{R}"),
    (r"(-\infty,\infty)", r"x \in \mathbb{R}"),
    (r"(-\infty,\infty)", "all real numbers"),
    (r"(-\infty,3)\cup(5,\infty)", r"x < 3 \text{ or } x > 5"),
]
DIFFERENT = [
    ("12", "13"),
    ("12", "-12"),
    ("-4", "4"),
    ("(1,2)", "(2,1)"),
    ("(8,-2)", "(-2,8)"),
    ("(8,-2)", "(8,2)"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    (r"\frac{1}{3}", "0.3333333"),
    (r"\frac{1}{3}", "0.333333333333333333"),
    (r"\sqrt{2}", "1.41421356"),
    (r"\pi", "3.14159265"),
    (r"\pi", r"\frac{22}{7}"),
    (r"\frac{2}{3}", "0.67"),
    (r"5 \text{ cm}", "5 inches"),
    (r"5 \text{ cm}", r"5 \text{ m}"),
    (r"12\text{ cm}^2", r"12 \text{ cm}"),
    (r"\$12", "12 euros"),
    ("50", r"50\%"),
    (r"50\%", "50"),
    ("0.5", r"50\%"),
    (r"50\%", "0.5"),
    ("1011_2", "1011_3"),
    ("4343_6", "4343_7"),
    ("1011_2", "1011"),
    ("11", "1011_2"),
    ("[0,3)", "[0,3]"),
    ("[0,3)", "(0,3)"),
    ("[0,3)", "0 < x < 3"),
    (r"(-\infty,3]", "x < 3"),
    (r"(-\infty,3]", r"x \ge 3"),
    (r"(0,9) \cup (9,36)", "(0,36)"),
    (r"(0,9) \cup (9,36)", "(0,9)"),
    (r"\{1,2\}", r"\{1\}"),
    ("1,2", "1,2,3"),
    ("1,2,3", "1,2"),
    (r"\{1,2\}", "1 and 3"),
    ("-2,1", "2,-1"),
    (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt{2}"),
    (r"1 \pm \sqrt{19}", r"1 \pm \sqrt{17}"),
    (r"2\sqrt{5}", r"\sqrt{5}"),
    (r"2\sqrt{5}", r"5\sqrt{2}"),
    (
        r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}",
        r"\begin{pmatrix} -1 & 0 \\ 0 & 1 \end{pmatrix}",
    ),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    ("y = 2x + 3", "y = 2x - 3"),
    ("x=5", "y=5"),
    ("x=5", "6"),
    ("(a+5)(b+2)", "(a+2)(b+5)"),
    ("x^3+3x-6", "x^3+3x+6"),
    ("x^3+3x-6", "3"),
    ("p - q", "q - p"),
    (r"\cot x", r"\tan x"),
    ("1+274i", "1-274i"),
    ("6+9i", "15"),
    (r"8 \pi", "8"),
    ("8", r"8\pi"),
    (r"\text{Evelyn}", "Navin"),
    (r"\text{even}", "odd"),
    (r"\text{(B)}", "(C)"),
    (r"\text{ellipse}", "hyperbola"),
    (r"90^\circ", r"\frac{\pi}{3}"),
    ("90", r"91^\circ"),
    (r"\frac{\pi}{2}", "90"),
    ("12:30", r"\frac{2}{5}"),
    ("12:30", "12:31"),
    ("3:4", "4:3"),
    ("10080", "1008"),
    ("2k+2", "2k-2"),
    ("4.5", "4.50001"),
    (".0000672", ".000067"),
    ("1/2", "1/3"),
    (r"-\frac{3}{8}", r"\frac{3}{8}"),
    ("2^{10}", "1025"),
    ("10^{100}", "10^{100}+1"),
    ("2004!", "2005!"),
    (r"(2,\infty)", r"[2,\infty)"),
    (r"(2,\infty)", "(2,5)"),
    (r"x \le 3", "x < 3"),
    ("x>2", "x<2"),
    ("2x+3y=6", "2x+3y=7"),
    (r"1\frac{4}{5}", r"\frac45"),
    (r"137 \frac{1}{2}", r"\frac{137}{2}"),
    ("3, 5, 7", "3,5,8"),
    ("(6,31,-1)", "(6,31,1)"),
    ("e^{2}", "e^{-2}"),
    (r"\ln 2", r"\ln 3"),
    ("204", "203"),
    ("204", "205"),
    ("204", "2040"),
    ("0", "1"),
    ("0", "-1"),
    ("0", "10^{-30}"),
    ("3", "3!"),
    ("9", "3^3"),
    (r"\frac{1}{2}", "2"),
    (r"\sqrt{3}", r"\sqrt[3]{3}"),
    ("x+y", "x-y"),
    ("xy", "x+y"),
    ("(1,2)", "[1,2]"),
    ("(1,2,3)", "(1,2)"),
    (r"\frac{20000}{\pi}", r"20000\pi"),
    (r"\infty", r"-\infty"),
    (r"5 \text{ km}", r"5 \text{ miles}"),
    (r"10 \text{ hours}", "10 minutes"),
    (r"10 \text{ hours}", r"10 \text{ days}"),
    (r"5 \text{ square inches}", r"5 \text{ cubic inches}"),
    (r"60 \text{ km/h}", r"60 \text{ m/s}"),
    ("23", "2 3"),
    ("12", "1 2"),
    ("123", "1 2 3"),
    (r"\{1,2\}", "(1,2)"),
    ("(1,2)", r"\{1,2\}"),
    ("[1,2]", r"\{1,2\}"),
    (r"\text{(A)}", "B"),
    (r"\text{(A)}", "the"),
    (r"\{1,2\}", "x=1 or x=3"),
    (r"\frac{1}{3}", r"0.\overline{31}"),
    (r"\frac{1}{2}", "2^1"),
    (r"(-\infty,3)\cup(5,\infty)", r"x < 3 \text{ or } x \ge 5"),
    (r"(-\infty,\infty)", r"(0,\infty)"),
]


SIBLINGS = {  # kind: (must be equal, must differ)
    "letters and words": (
        [
            (r"\text{Even}", "even"),
            (r"\text{Monday}", "monday"),
            ("Yes", "yes"),
            (r"\text{YES}", "Yes"),
            ("True", "true"),
            ("Increasing", "increasing"),
        ],
        [
            ("R^2", "r^2"),
            ("R", "r"),
            (r"\pi R^2", r"\pi r^2"),
            ("a+B", "A+b"),
            ("2X", "2x"),
            ("N", "n"),
            ("x=T", "x=t"),
            ("(A,b)", "(a,b)"),
            (r"\frac{A}{2}", r"\frac{a}{2}"),
            ("mc^2", "MC^2"),
            ("f(x)=X", "f(x)=x"),
            ("AB", "ab"),
        ],
    ),
    "units": (
        [
            ("5 m/s", "5 meters per second"),
            ("5 m/s", r"5\text{ m}/\text{s}"),
            ("5 m/s", r"5\ \mathrm{m\,s^{-1}}"),
            ("60 mph", "60 miles per hour"),
            ("60 mph", "60 mi/h"),
            ("60 mph", "60 miles/hour"),
            ("60 km/h", "60 kilometers per hour"),
            ("60 km/h", "60 kph"),
            ("60 km/h", "60 km per hour"),
            ("5 dollars per hour", r"\$5 per hour"),
            ("5 dollars per hour", r"\$5/\text{hour}"),
            ("5 dollars per hour", "5 dollars an hour"),
            ("5 m/s^2", "5 meters per second squared"),
            ("5 m/s^2", r"5\text{ m/s}^2"),
            ("5 m/s^2", r"5 \mathrm{m/s^2}"),
            ("5", "5 m/s"),
            ("5 m/s", "5"),
            ("5 kg", "5 kilograms"),
            ("12 cm^2", "12 square centimeters"),
            ("12 cm^2", "12 sq cm"),
            ("12 cm^2", "12 cm²"),
            ("12 cm^2", "12 sq. cm"),
            ("12 cubic feet", r"12\text{ ft}^3"),
            ("12 feet", "12 ft"),
            ("12 square units", "12 cm^2"),
            ("12 units", "12"),
            (r"125\text{ miles}", "125 miles"),
            ("5 m", "5m"),
            (r"3\text{ cm}", "3cm"),
            ("50 cents", "50¢"),
            ("5 people per square mile", "5 people/mi^2"),
            ("7 hours", "7 hours of work"),
            ("5000000", "5 million"),
            (r"20^\circ\text{C}", "20"),
            ("200", "2 hundred"),
            ("20 mpg", "20 miles per gallon"),
        ],
        [
            ("5 m/s", "5 cm/s"),
            ("60 mph", "60 km/h"),
            ("5 dollars per hour", "5 cents per hour"),
            (r"5\text{ m/s}", r"5\text{ cm/s}"),
            (r"5\text{ m/s}", r"5\text{ m/s}^2"),
            ("5 m/s", "5 m/s^2"),
            ("5 m/s", "5 s/m"),
            ("5 m/s", "5 m"),
            ("5 km/h", "5 km/min"),
            ("5 dollars per hour", "5 dollars per day"),
            ("5 dollars", "5 dollars per hour"),
            ("10 kg/m^3", "10 kg/m^2"),
            ("10 g/cm^3", "10 kg/m^3"),
            (r"60\text{ miles per hour}", r"60\text{ feet per second}"),
            ("5 miles per gallon", "5 miles per hour"),
            ("12 cm^2", "12 cm^3"),
            ("12 square feet", "12 cubic feet"),
            ("12 square feet", "12 feet"),
            ("n g", "n"),
            ("5 L/min", "5 mL/min"),
            ("3 m^3/s", "3 m^2/s"),
            ("3 cents per ounce", "3 cents per pound"),
            ("12 feet", "12 feet per second"),
            ("2", "2 thousand"),
            ("2", "2 thirds"),
            ("5", "5 squared"),
        ],
    ),
    "sets of numbers": (
        [
            (r"x<1 \text{ or } x>3", r"(-\infty,1)\cup(3,\infty)"),
            (r"(3,\infty)\cup(-\infty,1)", r"(-\infty,1)\cup(3,\infty)"),
            ("1<x", "x>1"),
            (r"3 \ge x", r"x \le 3"),
            ("x<1 or x>3", "x>3 or x<1"),
            ("x < 1, x > 3", "x<1 or x>3"),
            (r"\emptyset", r"\varnothing"),
            (r"\emptyset", r"\{\}"),
            (r"\emptyset", "no solution"),
            (r"\text{no solution}", r"\emptyset"),
            (r"\emptyset", "no solutions"),
            (r"\text{No real solutions}", r"\emptyset"),
            (r"\text{none}", r"\emptyset"),
            (r"x \ne 2", r"(-\infty,2)\cup(2,\infty)"),
            (r"(-\infty,2)\cup(2,\infty)", r"x \neq 2"),
            (r"\mathbb{R} \setminus \{2\}", r"x\ne2"),
            (r"\mathbb{R} \setminus \{2\}", r"(-\infty,2)\cup(2,\infty)"),
            (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}-\{2\}"),
            (r"\{x \mid x>3\}", r"(3,\infty)"),
            (r"\{x \in \mathbb{R} \mid x>3\}", "x>3"),
            (r"\{x : 1<x<3\}", "(1,3)"),
            ("(1,3)", r"\{x \mid 1 < x < 3\}"),
            ("x>1 and x<3", "(1,3)"),
            ("1<x<3", r"x>1 \text{ and } x<3"),
            ("x > 1, x<3", "1<x<3"),
            ("[2,5]", r"2\le x\le 5"),
            ("]0,1[", "(0,1)"),
            ("(-2, 2)", "|x|<2"),
            (r"\text{all real numbers}", r"\mathbb{R}"),
            (r"\{x | x > 2\}", "x>2"),
            (r"x \ne \pm 2", r"(-\infty,-2)\cup(-2,2)\cup(2,\infty)"),
            (r"1 \le x", r"x \geq 1, x \in \mathbb{R}"),
            (r"[1,2] \cup [2,3]", "[1,3]"),
            (r"k \le -2 \text{ or } k\ge 2", r"|k| \ge 2"),
        ],
        [
            ("(1,2)", "1,2"),
            ("[1,2]", "1,2"),
            ("[0,3)", "0,3"),
            ("x<3", "y<3"),
            ("x>2", "t>2"),
            ("1<x<2", "1<y<2"),
            (r"x\in(1,2)", r"y\in(1,2)"),
            ("x<1 or x>3", "x<1 and x>3"),
            (r"x<1 \text{ or } x>3", r"x<1 \text{ and } x>3"),
            (r"(-\infty,1)\cup(3,\infty)", r"(-\infty,1)\cap(3,\infty)"),
            ("x<1 or x>3", "x<1 or y>3"),
            ("1,2", "(1,2)"),
            ("1,2", "[1,2]"),
            ("x>3", "3"),
            ("3", "x>3"),
            ("x<3", r"x\le 3"),
            (r"x \ne 2", "2"),
            (r"x\ne 2", r"x\ne 3"),
            (r"(-\infty,1)", r"(1,-\infty)"),
            ("a<b<c", "c<b<a"),
            (r"\{1,2\}", "[1,2]"),
            (r"\{1\}\cup\{2\}", "(1,2)"),
            (r"n \ge 5", "n > 4"),
            (r"x \ge 2", r"\{2\}"),
        ],
    ),
    "chains of equations": (
        [
            ("33", "m+n=20+13=33"),
            ("4", "2+2=4"),
            (r"\frac12", r"\frac{2}{4}=\frac12"),
            (r"\frac12", r"\frac12=0.5"),
            ("5", "x=10/2=5"),
            (r"\sqrt2", r"\sqrt{2}\approx 1.41"),
            ("1.41", r"\sqrt2\approx 1.41"),
            ("5", "5=x"),
            (r"x=\frac12", r"x=\frac12=0.5"),
            ("12", r"3\times4=12"),
            ("2^{10}", "2^{10}=1024"),
        ],
        [
            ("12", "13=12"),
            ("12", "12=13"),
            ("5", "x=4=5"),
            ("4", "2+3=4"),
            ("7", "3+3=7"),
            ("1", "0=1"),
            ("x=5", "x=4=5"),
            (r"\frac12", r"\frac13=\frac12"),
            ("5", "2+2=5"),
            ("6", r"2 \cdot 4 = 6"),
        ],
    ),
    "figures": (
        [
            (r"\angle ABC", r"\angle CBA"),
            ("∠ABC", r"\angle CBA"),
            ("AB", "BA"),
            (r"\overline{AB}", r"\overline{BA}"),
            (r"\triangle ABC", r"\triangle BCA"),
            (r"\triangle ABC", r"\triangle ACB"),
            (r"\square ABCD", r"\square BCDA"),
            (r"\square ABCD", r"\square DCBA"),
            (r"\overline{AB}", "AB"),
            (r"\angle ABC", "ABC"),
            ("angle ABC", "∠CBA"),
            (r"\text{segment }AB", "BA"),
            (r"\overline{AB}", "segment BA"),
        ],
        [
            (r"\angle ABC", r"\angle ACB"),
            (r"\angle ABC", r"\angle BAC"),
            (r"\triangle ABC", r"\triangle ABD"),
            ("ABCD", "ACBD"),
            (r"\overline{AB}", r"\overline{AC}"),
            (r"\overrightarrow{AB}", r"\overrightarrow{BA}"),
            (r"\text{quadrilateral }ABCD", r"\text{quadrilateral } ACBD"),
            ("AB", "AC"),
            (r"\vec{AB}", r"\vec{BA}"),
            ("∠ABC", "∠ACB"),
            ("ABC", "ACB"),
            ("AB+CD", "AC+BD"),
            (r"\square ABCD", r"\square ACBD"),
            (r"\angle A", r"\angle B"),
            ("angle ABC", "angle ACB"),
            ("IV", "VI"),
        ],
    ),
    "digits and words": (
        [
            (r"6,250\text{ eggs}", "6250"),
            ("6250", r"6,250\text{ eggs}"),
            ("3250", r"\frac{6,500}{2}"),
            ("42", r"\text{42 cm}"),
            (r"\text{42 cm}", "42"),
            (r"\text{42 cm}", r"42\text{ cm}"),
            ("1234567", r"1,234,567\text{ people}"),
            ("1250", r"\text{1,250 dollars}"),
            ("1250", r"\$1,250"),
            ("10000, 20000", "10,000, 20,000"),
            (r"1,000\sqrt{2}", r"1000\sqrt2"),
            ("x=1,234", "1234"),
            ("12500", r"12,500\,\text{m}^2"),
            ("1234.5", "1,234.5"),
            (r"\text{-5}", "-5"),
            ("5", r"\mathbf{5}"),
            ("5", r"\text{5}"),
            (r"2,000\pi", r"2000\pi"),
            ("1000+x", "1,000+x"),
            (r"\sqrt{1,600}", "40"),
            ("1,200 and 1,300", "1300, 1200"),
            (r"1{,}234\text{ m}", "1234"),
            ("2500", r"\text{2,500 square feet}"),
            ("3000", r"3,000 \text{ (approximately)}"),
        ],
        [
            ("(1,234)", "1234"),
            (r"\{1,234\}", "1234"),
            ("1234", "(1,234)"),
            ("0,111", "111"),
            ("1,23", "123"),
            ("12,34", "1234"),
            ("1,2345", "12345"),
            ("1234", "1,235"),
            ("[1,200]", "1200"),
        ],
    ),
    "constants": (
        [
            ("3+4i", r"3+4\mathrm{i}"),
            ("3+4i", r"3+4\imath"),
            ("2i", r"2\text{i}"),
            ("e^2", r"\mathrm{e}^2"),
            (r"1-\frac1e", r"1 - \frac{1}{\mathrm{e}}"),
            (r"\mathrm{e}", "e"),
            (r"e^{i\pi}", "-1"),
            ("i^2", "-1"),
            (r"e^{\mathrm{i}\pi/4}", r"e^{i\pi/4}"),
            ("x^2", r"\mathit{x}^2"),
            (r"\mathrm{i}", "i"),
            ("3+4i", "3+4*i"),
            ("3+4i", "4i+3"),
            (r"\frac{1}{1-i}", r"\frac{1+i}{2}"),
            (r"\text{e}", "e"),
            (r"\int x \,dx", r"\int x\,\mathrm{d}x"),
            (r"\phi", r"\varphi"),
        ],
        [
            ("3+4i", r"3-4\mathrm{i}"),
            ("3i", "3j"),
            ("e", "2.718"),
            (r"\mathrm{e}", "2.718281828"),
            ("i", "1"),
            ("3i", "3"),
            (r"\mathrm{i}", "e"),
            ("3+4i", "7"),
            ("i", "-i"),
            ("d", r"\text{E}"),
            ("x'", "x"),
            ("f'(x)", "f(x)"),
            ("E", "e"),
            (r"\theta", r"\Theta"),
            ("2", "i<3"),
        ],
    ),
    "matrices": (
        [
            (r"A = \begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
            (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"A = \begin{bmatrix}1&2\\3&4\end{bmatrix}"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\[2pt]2\end{pmatrix}"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1 \\ [0.5em] 2\end{pmatrix}"),
            (r"\begin{pmatrix}1/2\\1\end{pmatrix}", r"\frac12\begin{pmatrix}1\\2\end{pmatrix}"),
            (
                r"\frac12\begin{pmatrix}1&3\\2&4\end{pmatrix}",
                r"\begin{pmatrix}0.5&1.5\\1&2\end{pmatrix}",
            ),
            (r"-\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}-1\\-2\end{pmatrix}"),
            (
                r"\frac{1}{2}\begin{pmatrix}1\\2\end{pmatrix}",
                r"\frac{1}{4}\begin{pmatrix}2\\4\end{pmatrix}",
            ),
            (r"\mathbf{M}=\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
            (
                r"A^{-1}=\frac12\begin{pmatrix}2&4\\6&8\end{pmatrix}",
                r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            ),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\left[\begin{array}{c}1\\2\end{array}\right]"),
            (
                r"\begin{pmatrix}1&0\\0&1\end{pmatrix}",
                r"\begin{smallmatrix}1&0\\0&1\end{smallmatrix}",
            ),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\\ \end{pmatrix}"),
            (
                r"\begin{pmatrix}6 & 8 \\ 10 & 12\end{pmatrix}",
                r"\begin{pmatrix}1&2\\3&4\end{pmatrix} + \begin{pmatrix}5&6\\7&8\end{pmatrix}",
            ),
            (
                r"\sqrt2\begin{pmatrix}1\\1\end{pmatrix}",
                r"\begin{pmatrix}\sqrt2\\ \sqrt2\end{pmatrix}",
            ),
            (r"\langle 1,2 \rangle", "(1,2)"),
            (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2"),
        ],
        [
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\frac12\begin{pmatrix}1\\2\end{pmatrix}"),
            (
                r"\frac12\begin{pmatrix}1\\2\end{pmatrix}",
                r"\frac13\begin{pmatrix}1\\2\end{pmatrix}",
            ),
            (r"A=\begin{pmatrix}1\\2\end{pmatrix}", r"B=\begin{pmatrix}1\\2\end{pmatrix}"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\[2pt]3\end{pmatrix}"),
            (r"-\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
            (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"),
            (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
            (r"\begin{pmatrix}1&2\end{pmatrix}", "12"),
            (r"\begin{pmatrix}5\end{pmatrix}", "6"),
            (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "5"),
        ],
    ),
    "labels and names": (
        [
            ("(p,q)=(3,2)", "(3,2)"),
            ("AB:CD=2:3", "2:3"),
            ("x=5", "5"),
            ("f(x)=x^2", "x^2"),
            (r"m\angle A = 30", "30"),
            (r"\angle A=30^\circ", "30"),
            (r"\frac{NO}{BO}=\frac{1}{\sqrt{6}}", r"\frac{1}{\sqrt{6}}"),
            ("S_{MBCN}:S=7:32", "7:32"),
            ("V_{1}:V_{2}=11:21", "11:21"),
            ("A:B=1", "1"),
            ("AB=4,CD=5", "4, 5"),
            ("AB=4,CD=5", r"AB = 4 \text{ and } CD=5"),
            ("p=5,q=2;p=7,q=2", "(5,2),(7,2)"),
            ("(p,q,r)=(3,2,7)", "(3,2,7)"),
            ("(x,y)=(1,2)", "x=1,y=2"),
            ("x=1,y=2", "y=2,x=1"),
            ("(2,4)", "y=4,x=2"),
            ("x=1,y=2 or x=3,y=4", "(1,2),(3,4)"),
            ("x=1,y=2 or x=3,y=4", "(3,4),(1,2)"),
            ("(x,y)=(1,2)", "(1,2)"),
            ("(1,2)", "(x,y)=(1,2)"),
            (r"\text{Area}=12", "12"),
            ("12", r"\text{Area}=12"),
            ("|AB|=5", "5"),
            (r"\sin A=\frac35", r"\frac35"),
            ("x_1=2,x_2=3", "3,2"),
            (r"\max = 7", "7"),
            ("x^2+y^2=4", "x^2+y^2=4"),
            ("(p,q)=(3,2)", "(q,p)=(2,3)"),
            (r"\text{The answer} = 5", "5"),
            (r"|\vec{a}| = 5", "5"),
            ("[ABC]=24", "24"),
            ("P(X=2)=0.3", "0.3"),
            (r"A^2=\begin{pmatrix}2&4\\6&8\end{pmatrix}", r"\begin{pmatrix}2&4\\6&8\end{pmatrix}"),
            ("(t,s)=(1,2)", "(1,2)"),
        ],
        [
            ("(p,q)=(3,2)", "(2,3)"),
            ("AB:CD=2:3", "3:2"),
            ("x=5", "6"),
            ("x=5", "y=5"),
            ("f(x)=x^2", "g(x)=x^2"),
            ("AB=4,CD=5", "5,4"),
            ("x=1,y=2", "x=2,y=1"),
            ("x=1,y=2 or x=3,y=4", "x=1,y=4 or x=3,y=2"),
            ("(2,4)", "y=2,x=4"),
            ("2x+3y=6", "6"),
            ("x^2+y^2=4", "4"),
            ("xy=5", "5"),
            ("x+y=5", "x-y=5"),
            ("(p,q)=(3,2)", "(p,q)=(2,3)"),
            ("(x,y)=(1,2)", "(a,b)=(1,2)"),
            ("S=7:32", "7:33"),
            ("y=2x+1", "x=2y+1"),
            ("x=5", "x"),
            ("p=5,q=2;p=7,q=2", "(5,7),(2,2)"),
            ("f(x)=x", "f(y)=y+1"),
            ("F_n = n+1", "F_n=n"),
            ("2:3", "3:2"),
            ("x=1", "x=1,x=2"),
            ("x=1,x=2", "1"),
        ],
    ),
    "bases": (
        [
            ("101_2", "101_{2}"),
            ("101_2", r"101_{\text{two}}"),
            ("101_2", "101 base 2"),
            ("101_2", "(101)_2"),
            ("101_2", r"101_\text{two}"),
            ("101_2", r"101\text{ base }2"),
            ("101_2", r"101 \text{ (base 2)}"),
            ("101_2", "101 in base 2"),
            ("101_2", "101_{two}"),
            ("101_2", "(101)_{2}"),
            ("101_2", "101_{(2)}"),
            ("1A_{16}", "1a_{16}"),
            ("FF_{16}", "ff_{16}"),
            ("FF_{16}", "(FF)_{16}"),
            ("A3_{16}", "A3 base 16"),
            ("101_2", "0101_2"),
            ("5", "5_{10}"),
            ("(2516)_8", "2516_8"),
            ("101_2", r"101_{\text{base }2}"),
            ("101_2", "101 base two"),
            ("1A_{16}", r"1\text{A}_{16}"),
            ("-101_2", "-101_{2}"),
            ("101_2", "101₂"),
            ("101_2", "n=101_2"),
            ("101_2", "5_{10} = 101_2"),
        ],
        [
            ("101_2", "101_3"),
            ("101_2", "101"),
            ("101", "101 base 2"),
            ("101_2", "(101)_3"),
            ("101_2", "100_2"),
            ("FF_{16}", "FE_{16}"),
            ("a_1", "A_1"),
            ("a_{12}", "A_{12}"),
            ("101_2", "5"),
            ("1A_{16}", "1A"),
            ("x_2", "x_3"),
            ("101_2", r"101_{\text{three}}"),
        ],
    ),
    "lists": (
        [
            ("1000", "1000.0"),
            ("7425000", "7,425,000"),
            ("(1,2,3)", "1,2,3"),
            ("(0;0;0),(0;-2;0)", "(0, 0, 0), (0, -2, 0)"),
            ("(11,7)or(7,11)", r"(7,11),\ (11,7)"),
            (r"21,16 \text{ or } 11", "21,16,11"),
            ("-12;-11;-10", r"\{-12, -11, -10\}"),
            ("19, 46, and 82", r"19, 46, \text{ and } 82"),
            (r"\pm 2021", "-2021,2021"),
            (r"\{1,2,3\}", "{1,2,3}"),
            (r"28\%", r"28 \%"),
            (r"28\%", r"28\text{ percent}"),
            ("12", "3(4)"),
            ("5", r"\frac{2(5)}{2}"),
            (r"\\frac{1}{2}", r"\frac12"),
            ("11", r"x \approx 11"),
            ("1.41", r"\sqrt2 \approx 1.41"),
        ],
        [
            (r"\pm 2021", "2021"),
            ("12:00", "1:00"),
            ("1,2,2", "1,2"),
            ("(1,2),(3,4)", "(1,3),(2,4)"),
            ("(1,2),(3,4)", "1,2,3,4"),
            ("3(4)", "7"),
            ("(x+y+z+1)^{400}", "1"),
            ("5", "()"),
            ("5", r"\approx"),
        ],
    ),
}


def math(gold, **meta):
    return Problem("m", "math", 1, "What is it?", gold, "math", meta)


def verdicts(pairs, workers=1):
    jobs = [(math(gold), answer) for gold, answer in pairs]
    return grade_answers(jobs, Settings(workers, progress=False))


@pytest.mark.slow
def test_rules_of_equality():
    pairs, truth = EQUAL + DIFFERENT, ["correct"] * len(EQUAL) + ["wrong"] * len(DIFFERENT)
    decisions = verdicts(pairs)
    assert not [
        (pair, decision)
        for pair, decision, true in zip(pairs, decisions, truth, strict=True)
        if decision.verdict != true
    ]


def test_brackets_within_brackets_are_the_answers_doing_and_no_error():
    pairs = [("1", "(" * depth + "1" + ")" * depth) for depth in (20, 400)]
    assert [verdict for verdict, *_ in verdicts(pairs)] == ["correct", "unparsed"]


@pytest.mark.parametrize("kind", SIBLINGS)
def test_siblings_of_a_kind(kind):
    equal, different = SIBLINGS[kind]
    decisions = verdicts(equal + different)
    errors = [
        (pair, decision)
        for pair, decision in zip(equal, decisions[: len(equal)], strict=True)
        if decision.verdict != "correct"
    ]
    errors += [
        (pair, decision)
        for pair, decision in zip(different, decisions[len(equal) :], strict=True)
        if decision.verdict not in ("wrong", "unparsed")
    ]
    assert not errors


def test_every_reference_equals_itself():
    golds = list(dict.fromkeys(gold for gold, _ in EQUAL + DIFFERENT))
    assert {verdict for verdict, *_ in verdicts([(gold, f"$ {gold} $") for gold in golds])} == {
        "correct"
    }


@pytest.mark.slow
def test_verdicts_do_not_depend_on_workers_or_order():
    pairs = EQUAL[40:52] + DIFFERENT[34:42]
    by_one, by_three = verdicts(pairs), verdicts(pairs[::-1], workers=3)
    assert by_one == by_three[::-1]


def test_a_bad_expression_costs_itself_only(monkeypatch):
    monkeypatch.setattr("ded.grading.pool.CPU_SECONDS", 0.5)
    bad = [
        "9^{9^{9^{9}}}",
        "x^{100000!}",
        "(" * 300 + "1" + ")" * 300 + "^x",
        r"\sqrt{" * 90 + "2" + "}" * 90,
    ]
    *decisions, good = verdicts([("x", answer) for answer in bad] + [(r"\sqrt{8}", r"2\sqrt{2}")])
    assert good[:2] == ("correct", "") and {verdict for verdict, *_ in decisions} <= {
        "error",
        "unparsed",
        "wrong",
    }


@pytest.mark.slow
def test_time_and_length_limits(monkeypatch):
    monkeypatch.setattr("ded.grading.pool.CPU_SECONDS", 0.2)
    ((large, reason, _),) = verdicts([("7", "1450000!")])
    assert (large, reason) == ("error", "time limit")
    ((long, reason, _),) = verdicts([("1", "1" * 1_000_000)])
    assert long == "unparsed" and "1000000 characters" in reason


@pytest.mark.parametrize(
    "part", ["cm ", "5 per ", "m/s aa ", "base ", "no Solution ", r"\alpha a "]
)
def test_a_long_answer_that_fits_no_pattern_is_read_at_once(part):
    answer = (part * 200)[:190] + r"\pi?"  # a pattern that tries all ways to cut it would not end
    ((verdict, *_),) = verdicts([("5 cm", answer)])
    assert verdict in ("wrong", "unparsed")


def test_tolerance_only_where_the_task_asks():
    third, root = math("1/3", tolerance=1e-3), math(r"\sqrt{2}", tolerance=0.01)
    jobs = [
        (third, "0.333"),
        (third, "0.34"),
        (root, "1.41"),
        (root, "1.5"),
        (math("1/3"), "0.333"),
    ]
    decisions = grade_answers(jobs, Settings(progress=False))
    assert [verdict for verdict, *_ in decisions] == [
        "correct",
        "wrong",
        "correct",
        "wrong",
        "wrong",
    ]


@pytest.mark.parametrize(
    ("question", "gold", "answer", "strict", "same"),
    [
        ("What percentage of the cars are red?", "60", r"60\%", "wrong", "correct"),
        ("By what percent does it rise?", r"60\%", "60", "wrong", "correct"),
        ("Which percent?", "60", "60 percent", "wrong", "correct"),
        ("What percentage is it?", r"60\%", "60%", "correct", "correct"),
        ("What percentage is it?", r"60\%", "0.6", "wrong", "wrong"),
        ("What percentage is it?", "60", r"61\%", "wrong", "wrong"),
        ("What is 20 percent of 300?", "60", r"60\%", "wrong", "wrong"),
    ],
)
def test_a_percent_sign_may_be_left_out_where_the_question_asks(
    question, gold, answer, strict, same
):
    pairs = [(Problem("m", "math", 1, question, gold, "math"), answer)]
    for percent, verdict in (("strict", strict), ("same", same)):
        settings = Settings(options=Grading(percent=percent), progress=False)
        ((decided, *_),) = grade_answers(pairs, settings)
        assert decided == verdict


def test_what_cannot_be_read_is_unparsed():
    assert [verdict for verdict, *_ in verdicts([("5", "no solution exists"), ("5", "}{")])] == [
        "unparsed"
    ] * 2


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{99} wait, no: \boxed{100}", "100"),
        (r"\boxed{\frac{1}{2}} and \boxed{unclosed", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        ("The answer is 42.", "42"),
        ("The final answer is: $x = 5$, as shown.", "x = 5"),
        ("**Answer:** 3/4", "3/4"),
        ("**Final Answer**\nThe final answer is $\\sqrt{2}$. I hope it is correct.", r"\sqrt{2}"),
        ("the answer was 7. Then the answer is 3.5 meters.", "3.5 meters"),
        ("work\n#### 1,234", "1,234"),
        ("Answer:\n17", "17"),
        ("The answer is\n$$\nx + 1\n$$\nas $y$ shows", "x + 1"),
        ("The answer is 5.\n\n$y$ was not needed", "5"),
        (r"\boxed{1} " + r"\boxed{" * 20_000, None),
        ("42", "42"),
        ("$\\frac{3}{4}$", r"\frac{3}{4}"),
        ("I think it may be 42 or 43", None),
        ("", None),
        (r"\boxed{}", None),
    ],
)
def test_extraction(text, answer):
    assert extract(text) == answer


def test_the_last_number_counts_only_where_the_task_allows():
    assert extract("it takes 10-12 days", last_number=True) is None  # a range is no number
    text = "She has 3 + 4 = 7 eggs and earns $1,234.50 in all"
    assert extract(text) is None and extract(text, last_number=True) == "$1,234.50"
    graded = grade(
        pd.DataFrame({"problem_id": "m", "text": [text], "finish_reason": "stop"}),
        [math("1234.5", last_number=True)],
        progress=False,
    )
    assert graded["verdict"][0] == "correct"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{B}", "B"),
        (r"\boxed{(B)}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"\boxed{\textbf{(B)}\ 12}", "B"),
        ("The answer is (b).", "B"),
        ("Answer: B) Paris", "B"),
        ("B", "B"),
        ("**B**", "B"),
        ("(B) Paris", "B"),
        ("The answer is Paris", "B"),
        (r"\boxed{Paris}", "B"),
        (r"\boxed{D}", "D"),
        (r"\boxed{E}", None),
        ("Option C", "C"),
        ("Being late is bad", None),
        ("I do not know", None),
    ],
)
def test_multiple_choice(text, letter):
    options = ["Rome", "Paris", "Oslo", "Bern"]
    question = Problem("c", "c", 1, "", "B", "choice", {"options": options})
    assert choice.extract(text, question) == letter


def test_kinds_side_by_side():
    problems = [
        Problem("c", "f", 1, "", "B", "choice"),
        math(r"\frac{1}{2}"),
        Problem("e", "f", 1, "", "a b"),
    ]
    rows = [
        ("c", "(B)"),
        ("m", r"\boxed{0.5}"),
        ("m", r"\boxed{0.6}"),
        ("e", "a b"),
        ("c", "hm hm"),
        ("m", "so be it"),
    ]
    frame = pd.DataFrame(rows, columns=["problem_id", "text"]).assign(finish_reason="stop")
    graded = grade(frame, problems, progress=False)
    assert graded["verdict"].tolist() == [
        "correct",
        "correct",
        "wrong",
        "correct",
        "unparsed",
        "unparsed",
    ]
    assert graded["answer"].tolist()[:3] == ["B", "0.5", "0.6"]
