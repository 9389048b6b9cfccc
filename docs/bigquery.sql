-- External tables over the lake; put in PROJECT, the dataset velib, and BUCKET. Stamps are UTC.
CREATE SCHEMA IF NOT EXISTS `PROJECT.velib`;

CREATE OR REPLACE EXTERNAL TABLE `PROJECT.velib.dailies`
OPTIONS (format = 'PARQUET', uris = ['gs://BUCKET/velib/daily/compact_*.parquet']);

CREATE OR REPLACE EXTERNAL TABLE `PROJECT.velib.observations`
OPTIONS (format = 'PARQUET', uris = ['gs://BUCKET/velib/exports/events_*.parquet']);

CREATE OR REPLACE EXTERNAL TABLE `PROJECT.velib.evaluations`
OPTIONS (format = 'PARQUET', uris = ['gs://BUCKET/velib/exports/perf_*.parquet']);

CREATE OR REPLACE EXTERNAL TABLE `PROJECT.velib.forecast_log`
OPTIONS (format = 'PARQUET', uris = ['gs://BUCKET/velib/exports/served_*.parquet']);
