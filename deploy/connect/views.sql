-- Quality of what was served, for dashboards: predictions beside the labels that came later. Binary tasks, PostgreSQL.
--
--   psql -v id=order_id -v at=time -v label=late -v positive=true -v carried=carried_kind -f views.sql DATABASE
--
-- id, at, label: columns of the table labels; positive: the label that `score` is the probability of, as text;
-- carried: a column of predictions by which quality is told apart (predictions.carry).

-- One row for each event that has a prediction and a label. Of an event that came twice the first counts; what a cold
-- model said has no score, and is left out as the service leaves it out.
CREATE OR REPLACE VIEW labelled AS
SELECT
  p.event_id,
  p.event_time,
  p.lineage,
  p.position,
  p.examples_learned,
  p.:"carried" AS carried,
  p.score,
  p.class,
  p.flags,
  (l.:"label")::text AS label,
  ((l.:"label")::text = :'positive') AS is_positive,
  l.:"at" AS labelled_at,
  -- what a probability costs, no more than one of 1e-15 would
  -ln(greatest(1e-15, CASE WHEN (l.:"label")::text = :'positive' THEN p.score ELSE 1 - p.score END)) AS loss
FROM (
  SELECT DISTINCT ON (event_id) * FROM predictions
  WHERE score IS NOT NULL
  ORDER BY event_id, event_time, event_topic, event_partition, event_offset
) AS p
JOIN labels AS l ON l.:"id" = p.event_id;

-- Each of them under every heading by which quality is asked for, with its place among those of its group: equal scores
-- share one.
CREATE OR REPLACE VIEW ranked AS
SELECT
  of.heading,
  of.value,
  l.*,
  rank() OVER (PARTITION BY of.heading, of.value ORDER BY l.score)
    + (count(*) OVER (PARTITION BY of.heading, of.value, l.score) - 1) / 2.0 AS place
FROM labelled AS l
CROSS JOIN LATERAL (
  VALUES ('all', ''), ('day', l.event_time::date::text), ('version', l.lineage), ('carried', l.carried::text)
) AS of (heading, value);

-- What is read of a group. The ROC AUC is that of Mann and Whitney, by places; null where one class is missing.
CREATE OR REPLACE VIEW quality AS
SELECT
  heading,
  value,
  count(*) AS labelled,
  avg(is_positive::int) AS positives,
  avg((class = label)::int) AS accuracy,
  avg(loss) AS log_loss,
  (sum(place) FILTER (WHERE is_positive) - sum(is_positive::int) * (sum(is_positive::int) + 1) / 2.0)
    / nullif(sum(is_positive::int) * sum((NOT is_positive)::int), 0) AS auc,
  min(position) AS from_position,
  max(position) AS to_position
FROM ranked
GROUP BY heading, value;

CREATE OR REPLACE VIEW quality_by_day AS
SELECT value::date AS day, labelled, positives, accuracy, log_loss, auc FROM quality WHERE heading = 'day';

CREATE OR REPLACE VIEW quality_by_version AS
SELECT value AS lineage, from_position, to_position, labelled, positives, accuracy, log_loss, auc
FROM quality WHERE heading = 'version';

CREATE OR REPLACE VIEW quality_by_carried AS
SELECT value AS carried, labelled, positives, accuracy, log_loss, auc FROM quality WHERE heading = 'carried';
